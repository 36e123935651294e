//! Function names of this process, from the symbol tables of its program and libraries.
//!
//! Symbol tables, not debug information: every build that was not stripped has them, and their
//! names are complete. They do not list inlined calls; pprof cannot separate these either, as it
//! treats two addresses in one function as equal.

use inferometer_protocol::profile::UNKNOWN;

/// Symbol tables, each read on first use.
#[derive(Default)]
pub struct Symbols(system::Tables);

impl Symbols {
    /// Demangled name of the function that contains the address; else the code's file name in
    /// brackets.
    pub fn name(&mut self, address: usize) -> String {
        match self.0.find(address) {
            Found::Function(raw) => demangled(raw),
            Found::File(file) => format!("[{file}]"),
            Found::Nothing => UNKNOWN.to_owned(),
        }
    }
}

enum Found {
    /// Mangled.
    Function(Vec<u8>),
    File(String),
    Nothing,
}

/// Demangles Rust (both manglings) and C++ names; returns any other name unchanged.
fn demangled(raw: Vec<u8>) -> String {
    pprof::Symbol { name: Some(raw), addr: None, lineno: None, filename: None }.name()
}

#[cfg(target_os = "linux")]
mod system {
    use std::collections::HashMap;
    use std::ops::Range;

    use object::{Object, ObjectSegment, ObjectSymbol, SymbolKind};

    use super::Found;

    /// Code of this process from `/proc/self/maps`, with the files' symbols.
    #[derive(Default)]
    pub struct Tables {
        code: Option<Vec<Code>>,
        files: HashMap<String, File>,
    }

    struct Code {
        addresses: Range<usize>,
        /// Offset of the code in its file.
        offset: u64,
        path: String,
    }

    #[derive(Default)]
    struct File {
        /// Ranges of the file, with the address of each range's first byte in the symbol table.
        segments: Vec<(Range<u64>, u64)>,
        /// Sorted by address.
        functions: Vec<Function>,
    }

    struct Function {
        addresses: Range<u64>,
        name: Vec<u8>,
    }

    impl Tables {
        pub fn find(&mut self, address: usize) -> Found {
            let code = self.code.get_or_insert_with(code);
            let Some(code) = code.iter().find(|code| code.addresses.contains(&address)) else { return Found::Nothing };
            let file =
                self.files.entry(code.path.clone()).or_insert_with(|| File::read(&code.path).unwrap_or_default());
            let place = (address - code.addresses.start) as u64 + code.offset;
            match file.function(place) {
                Some(function) => Found::Function(function.name.clone()),
                None => {
                    Found::File(code.path.rsplit('/').next().unwrap_or_default().trim_matches(['[', ']']).to_owned())
                }
            }
        }
    }

    fn code() -> Vec<Code> {
        let maps = fs_err::read_to_string("/proc/self/maps").unwrap_or_default();
        maps.lines().filter_map(mapping).collect()
    }

    /// Parses `from-to rights offset device inode path`; `None` unless it is executable and has a
    /// name.
    fn mapping(line: &str) -> Option<Code> {
        let mut fields = line.splitn(6, ' ');
        let (from, to) = fields.next()?.split_once('-')?;
        let executable = fields.next()?.contains('x');
        let offset = u64::from_str_radix(fields.next()?, 16).ok()?;
        let path = fields.nth(2)?.trim();
        let number = |text| usize::from_str_radix(text, 16).ok();
        let addresses = number(from)?..number(to)?;
        (executable && !path.is_empty()).then(|| Code { addresses, offset, path: path.to_owned() })
    }

    impl File {
        /// `None` for a mapping without a file (such as `[vdso]`) or a deleted file.
        fn read(path: &str) -> Option<Self> {
            let bytes = path.starts_with('/').then(|| fs_err::read(path).ok())??;
            let elf = object::File::parse(bytes.as_slice()).ok()?;
            let segments = elf.segments().map(|segment| {
                let (start, length) = segment.file_range();
                (start..start + length, segment.address())
            });
            let function = |symbol: object::Symbol<'_, '_>| {
                let known = symbol.kind() == SymbolKind::Text && symbol.size() > 0;
                let name = symbol.name_bytes().ok().filter(|name| known && !name.is_empty())?;
                Some(Function { addresses: symbol.address()..symbol.address() + symbol.size(), name: name.to_owned() })
            };
            // Distributed libraries have only the dynamic symbol table.
            let mut functions: Vec<Function> =
                elf.symbols().chain(elf.dynamic_symbols()).filter_map(function).collect();
            functions.sort_by_key(|function| (function.addresses.start, function.addresses.end));
            Some(Self { segments: segments.collect(), functions })
        }

        fn function(&self, place: u64) -> Option<&Function> {
            let (part, first) = self.segments.iter().find(|(part, _)| part.contains(&place))?;
            let address = place - part.start + first;
            let after = self.functions.partition_point(|function| function.addresses.start <= address);
            self.functions[..after].last().filter(|function| function.addresses.contains(&address))
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_mapping_is_read_with_blanks_in_its_path() {
            let code = mapping("7f00-7f80 r-xp 00001000 fe:00 1234                       /opt/my lib.so").unwrap();
            assert_eq!((code.addresses, code.offset, code.path.as_str()), (0x7f00..0x7f80, 0x1000, "/opt/my lib.so"));
            assert!(mapping("7f00-7f80 rw-p 00001000 fe:00 1234    /opt/lib.so").is_none(), "not code");
            assert!(mapping("7f00-7f80 r-xp 00000000 00:00 0 ").is_none(), "no name");
            assert!(mapping("nonsense").is_none());
        }
    }
}

#[cfg(target_os = "macos")]
mod system {
    use std::ffi::CStr;

    use super::Found;

    /// On macOS the loader knows all symbols.
    #[derive(Default)]
    pub struct Tables;

    impl Tables {
        pub fn find(&mut self, address: usize) -> Found {
            // SAFETY: all bits zero are a valid `Dl_info`: null pointers and zero addresses.
            let mut info: libc::Dl_info = unsafe { std::mem::zeroed() };
            // SAFETY: `dladdr` takes any address and fills `info`.
            if unsafe { libc::dladdr(address as *const libc::c_void, &mut info) } == 0 {
                return Found::Nothing;
            }
            // SAFETY: the strings belong to the loader and live as long as their object is loaded.
            let text =
                |text: *const libc::c_char| (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_bytes());
            match (text(info.dli_sname), text(info.dli_fname)) {
                // `dladdr` has already removed the underscore that Mach-O puts before every name.
                (Some(name), _) => Found::Function(name.to_vec()),
                (None, Some(path)) => {
                    let path = String::from_utf8_lossy(path);
                    Found::File(path.rsplit('/').next().unwrap_or_default().to_owned())
                }
                (None, None) => Found::Nothing,
            }
        }
    }
}

#[cfg(not(any(target_os = "linux", target_os = "macos")))]
mod system {
    #[derive(Default)]
    pub struct Tables;

    impl Tables {
        pub fn find(&mut self, _: usize) -> super::Found {
            super::Found::Nothing
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[inline(never)]
    fn known<T: std::fmt::Debug>(x: T) -> String {
        format!("{x:?}")
    }

    #[test]
    fn names_are_whole_and_demangled() {
        assert_eq!(known(1u8), "1");
        let mut symbols = Symbols::default();
        let own = symbols.name(known::<u8> as *const () as usize + 1);
        assert!(own.starts_with("inferometer_host::sampling::symbols::tests::known"), "{own}");
        let nowhere = symbols.name(1);
        assert_eq!(nowhere, UNKNOWN);
        let named = |raw: &str| demangled(raw.into());
        assert_eq!(named("_ZN3mlx4core9transformE"), "mlx::core::transform");
        assert_eq!(
            named("_ZN4ggml6matmulERKSt6vectorIfSaIfEE"),
            "ggml::matmul(std::vector<float, std::allocator<float> > const&)"
        );
        assert_eq!(named("_ZN4host4work17h0123456789abcdefE"), "host::work");
        assert_eq!(named("_RNvCskwGfYPst2Cb_3foo16example_function"), "foo::example_function");
        assert_eq!(named("memcpy"), "memcpy");
    }
}
