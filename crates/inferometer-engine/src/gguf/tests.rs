use std::fs::OpenOptions;

use proptest::prelude::*;

use super::writer::Writer;
use super::*;

/// A file with values of every type and tensors of four.
fn whole() -> Writer {
    let mut file = Writer::default();
    file.text("general.architecture", "llama").alignment(64);
    file.u32("llama.block_count", 3).i32("a.negative", -4).u16("a.short", 65535).flag("a.flag", true);
    file.raw("a.u8", 0, &[200]).raw("a.i8", 1, &[200]).raw("a.i16", 3, &(-300i16).to_le_bytes());
    file.raw("a.u64", 10, &u64::MAX.to_le_bytes()).raw("a.i64", 11, &(-5i64).to_le_bytes());
    file.f32("a.f32", 0.5).raw("a.f64", 12, &0.1f64.to_le_bytes());
    file.texts("a.texts", &["", "Ġnaïve", "b"]).i32s("a.i32s", &[1, -2, 3]).f32s("a.f32s", &[-1000.0, 0.25]);
    file.flags("a.flags", &[true, false, true]).array("a.none", 4, 0, &[]);
    file.array("a.counts", 2, 3, &[1, 0, 0, 1, 255, 255]);
    file.tensor("norm", &[3], GgmlType::F32, [1.0f32, -2.5, 3.0].iter().flat_map(|v| v.to_le_bytes()).collect());
    file.tensor("half", &[2, 2], GgmlType::F16, vec![0, 0x3c, 0, 0xc0, 0, 0, 0, 0x38]);
    file.tensor("brain", &[1], GgmlType::BF16, vec![0x80, 0x3f]);
    file.tensor("matrix", &[4, 64], GgmlType::Q4_1, (0..4 * 2 * 20).map(|byte| byte as u8).collect());
    file.tensor("experts", &[2, 3, 32], GgmlType::MXFP4, vec![7; 2 * 3 * 17]);
    file
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn open(&self, bytes: &[u8]) -> Result<Gguf> {
        let path = self.path("m.gguf");
        fs_err::write(&path, bytes).unwrap();
        Gguf::open(&path)
    }

    /// The message of the error for these bytes, without the path in front.
    fn refusal(&self, bytes: &[u8]) -> String {
        let error = self.open(bytes).unwrap_err();
        assert_eq!(error.kind, inferometer_protocol::ErrorKind::Model);
        error.message.split_once("m.gguf: ").expect("the file is named").1.to_owned()
    }
}

#[test]
fn metadata_and_tensors_are_read_as_written() {
    for version in [2, 3] {
        let folder = Folder::new();
        let mut file = whole();
        file.version = version;
        let model = folder.open(&file.bytes()).unwrap();
        let metadata = model.metadata();
        assert_eq!(metadata.text("general.architecture").unwrap(), Some("llama"));
        assert_eq!(metadata.count("llama.block_count").unwrap(), Some(3));
        assert_eq!(metadata.count("a.u64").unwrap(), Some(u64::MAX));
        assert_eq!(metadata.count("a.u8").unwrap(), Some(200));
        assert_eq!(metadata.float("a.f64").unwrap(), Some(0.1));
        assert_eq!(metadata.float("a.f32").unwrap(), Some(0.5));
        assert_eq!(metadata.flag("a.flag").unwrap(), Some(true));
        assert_eq!(metadata.text("absent").unwrap(), None);
        assert!(metadata.has("a.none") && !metadata.has("absent"));
        let texts = metadata.texts("a.texts").unwrap().unwrap();
        assert_eq!((texts.iter().collect::<Vec<_>>(), texts.get(3)), (vec!["", "Ġnaïve", "b"], None));
        let integers = |key| metadata.integers(key).unwrap().unwrap().collect::<Vec<_>>();
        assert_eq!(
            (integers("a.i32s"), integers("a.counts"), integers("a.none")),
            (vec![1, -2, 3], vec![1, 256, 65535], vec![])
        );
        assert_eq!(metadata.floats("a.f32s").unwrap().unwrap().collect::<Vec<_>>(), [-1000.0, 0.25]);
        assert_eq!(metadata.counts_by_layer("a.counts", 3).unwrap(), Some(vec![1, 256, 65535]));
        assert_eq!(metadata.counts_by_layer("a.short", 2).unwrap(), Some(vec![65535; 2]));
        assert_eq!(metadata.flags_by_layer("a.flags", 3).unwrap(), Some(vec![true, false, true]));
        assert_eq!(metadata.flags_by_layer("a.flag", 2).unwrap(), Some(vec![true; 2]));
        assert!(metadata.keys().any(|key| key == "a.negative"));

        assert_eq!(model.tensors().len(), 5);
        let matrix = model.tensor("matrix").unwrap();
        assert_eq!((matrix.info.shape.as_slice(), matrix.info.kind), (&[4, 64][..], GgmlType::Q4_1));
        assert_eq!(matrix.bytes, (0..160).collect::<Vec<u8>>());
        assert_eq!(matrix.info.offset % 64, 0);
        assert_eq!(matrix.candle().unwrap(), candle_core::quantized::GgmlDType::Q4_1);
        assert_eq!(matrix.floats(), None);
        assert_eq!(model.tensor("norm").unwrap().floats().unwrap(), [1.0, -2.5, 3.0]);
        assert_eq!(model.tensor("half").unwrap().floats().unwrap(), [1.0, -2.0, 0.0, 0.5]);
        assert_eq!(model.tensor("brain").unwrap().floats().unwrap(), [1.0]);
        let experts = model.tensor("experts").unwrap();
        assert_eq!((experts.info.shape.as_slice(), experts.bytes.len()), (&[2, 3, 32][..], 102));
        let refused = experts.candle().unwrap_err().message;
        assert!(refused.contains("m.gguf: tensor experts is MXFP4") && refused.contains("Q4_K"), "{refused}");
        let missing = model.tensor("absent").unwrap_err().message;
        assert!(missing.contains("tensor absent is missing"), "{missing}");
        assert_eq!(model.length(), file.bytes().len() as u64);
    }
}

#[test]
fn a_file_in_memory_reads_as_a_mapped_one() {
    let folder = Folder::new();
    let bytes = whole().bytes();
    let (mapped, memory) =
        (folder.open(&bytes).unwrap(), Gguf::from_bytes(bytes.clone(), Path::new("m.gguf")).unwrap());
    assert!(mapped.tensors().eq(memory.tensors()) && mapped.length() == memory.length());
    assert!(mapped.metadata().keys().eq(memory.metadata().keys()));
    // There is nothing to give back to the system.
    memory.forget("matrix", 0..160);
    for name in ["norm", "matrix"] {
        assert_eq!(memory.tensor(name).unwrap().bytes, mapped.tensor(name).unwrap().bytes);
    }
    let cut = Gguf::from_bytes(bytes[..bytes.len() - 1].to_vec(), Path::new("m.gguf")).unwrap_err().message;
    assert!(cut.starts_with("m.gguf: truncated"), "{cut}");
}

#[test]
fn a_forgotten_tensor_can_still_be_read() {
    let folder = Folder::new();
    let mut file = Writer::default();
    let large: Vec<u8> = (0..1 << 20).map(|at: u32| (at * 7) as u8).collect();
    file.tensor("large", &[1 << 18], GgmlType::F32, large.clone());
    let model = folder.open(&file.bytes()).unwrap();
    let stored = model.tensor("large").unwrap();
    assert_eq!(stored.bytes, large);
    model.forget("large", 0..model.tensor("large").unwrap().bytes.len());
    model.forget("large", 0..usize::MAX);
    model.forget("absent", 0..1);
    assert_eq!(stored.bytes, large);
}

#[test]
fn a_value_of_another_type_is_named() {
    let folder = Folder::new();
    let model = folder.open(&whole().bytes()).unwrap();
    let m = model.metadata();
    let refused = |result: Option<EngineError>, words: &[&str]| {
        let message = result.expect("an error").message;
        assert!(words.iter().all(|word| message.contains(word)) && message.contains("m.gguf: a."), "{message}");
    };
    refused(m.text("a.f32").err(), &["a.f32 is the floating-point number 0.5, not a text"]);
    refused(m.count("a.negative").err(), &["a.negative is the integer -4"]);
    refused(m.count("a.i8").err(), &["-56"]);
    refused(m.count("a.i16").err(), &["-300"]);
    refused(m.count("a.i64").err(), &["-5"]);
    refused(m.count("a.flag").err(), &["the flag true"]);
    refused(m.float("a.u8").err(), &["the integer 200, not a floating-point number"]);
    refused(m.flag("a.texts").err(), &["an array of 3 texts, not a flag"]);
    refused(m.texts("a.i32s").err(), &["an array of 3 integers, not an array of texts"]);
    refused(m.integers("a.f32s").err(), &["an array of 2 floating-point numbers"]);
    refused(m.integers("a.flags").err(), &["an array of 3 flags"]);
    refused(m.floats("a.i32s").err(), &["an array of 3 integers"]);
    refused(m.counts_by_layer("a.counts", 4).err(), &["an array of 3 integers", "an array of 4"]);
    refused(m.counts_by_layer("a.i32s", 3).err(), &["an array of 3 integers"]);
    refused(m.flags_by_layer("a.flags", 2).err(), &["an array of 3 flags"]);
    assert!(m.missing("a.b").message.contains("a.b is missing"));
}

/// Every shorter file is refused, whatever byte it ends at.
#[test]
fn a_file_cut_anywhere_is_an_error_that_names_it() {
    let folder = Folder::new();
    let bytes = whole().bytes();
    assert!(bytes.len() > 1300, "{}", bytes.len());
    let path = folder.path("m.gguf");
    fs_err::write(&path, &bytes).unwrap();
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    for length in (0..bytes.len()).rev() {
        file.set_len(length as u64).unwrap();
        let message = Gguf::open(&path).expect_err(&format!("{length} bytes")).message;
        let said = message.contains("truncated") || length < 4 && message.contains("not a GGUF file");
        assert!(said && message.contains("m.gguf"), "{length}: {message}");
    }
}

/// Sets the eight bytes at `at`.
fn with_u64(bytes: &[u8], at: usize, value: u64) -> Vec<u8> {
    let mut changed = bytes.to_vec();
    changed[at..at + 8].copy_from_slice(&value.to_le_bytes());
    changed
}

#[test]
fn lengths_that_overflow_are_refused_before_anything_is_allocated() {
    let folder = Folder::new();
    let bytes = whole().bytes();
    let find = |text: &str| bytes.windows(text.len()).position(|window| window == text.as_bytes()).unwrap();
    let array = find("a.texts") + "a.texts".len() + 4 + 4;
    let numbers = find("a.i32s") + "a.i32s".len() + 4 + 4;
    let dimension = find("norm") + "norm".len() + 4;
    let offset = dimension + 8 + 4;
    // Number of tensors, of pairs, length of the first key, of the first text, of arrays, of an
    // array's first text, first dimension, offset.
    let text = 24 + 8 + "general.architecture".len() + 4;
    let places = [8, 16, 24, text, array, numbers, array + 8, dimension, offset];
    for at in places {
        for value in [u64::MAX, u64::MAX - 7, 1 << 63, (1 << 62) + 1, 1 << 61, 1 << 40, (u64::MAX / 13) + 2] {
            let message = folder.refusal(&with_u64(&bytes, at, value));
            assert!(message.len() < 400, "{at}, {value}: {message}");
        }
    }
    // One more than there are is the smallest overflow.
    for (at, count) in [(8, 6), (16, 20), (array, 4), (dimension, 1 << 20)] {
        folder.refusal(&with_u64(&bytes, at, count));
    }
    // A shape whose product overflows although each dimension is small.
    let mut file = Writer::default();
    file.tensor("t", &[1 << 31, 1 << 31, 1 << 31], GgmlType::F32, vec![0; 4]);
    assert!(folder.refusal(&file.bytes()).contains("tensor t has the shape"));
}

#[test]
fn foreign_versions_and_byte_orders_are_told_apart() {
    let folder = Folder::new();
    let of_version = |version| {
        let mut file = whole();
        file.version = version;
        folder.refusal(&file.bytes())
    };
    assert!(of_version(1).contains("GGUF version 1 (of 2023)"));
    assert!(of_version(4).contains("GGUF version 4 is not supported"));
    assert!(of_version(3u32.swap_bytes()).contains("big-endian"));
    assert!(folder.refusal(b"GGML\x03\0\0\0").contains("not a GGUF file: it begins with `GGML`"));
    assert!(folder.refusal(b"").contains("not a GGUF file"));
    let missing = Gguf::open(&folder.path("none.gguf")).unwrap_err().message;
    assert!(missing.contains("none.gguf"), "{missing}");
    assert!(Gguf::open(folder.0.path()).unwrap_err().message.contains("is no file"));
    fs_err::write(folder.path("m.gguf"), whole().bytes()).unwrap();
    assert!(Gguf::recognises(&folder.path("m.gguf")));
    fs_err::write(folder.path("m.gguf"), "GGU").unwrap();
    assert!(!Gguf::recognises(&folder.path("m.gguf")) && !Gguf::recognises(&folder.path("none.gguf")));
}

/// Adds what is wrong.
type Change<'a> = &'a dyn for<'w> Fn(&'w mut Writer) -> &'w mut Writer;

#[test]
fn contradictions_name_the_key_or_the_tensor() {
    let folder = Folder::new();
    let refusal = |change: Change<'_>| {
        let mut file = Writer::default();
        change(&mut file);
        folder.refusal(&file.bytes())
    };
    let four = || vec![0; 4];
    let cases: [(&str, Change<'_>); 13] = [
        ("the key a stands twice", &|f| f.u32("a", 1).u32("a", 1)),
        ("value of a has the unknown type 13", &|f| f.raw("a", 13, &[])),
        ("value of a is an array of arrays", &|f| f.array("a", 9, 0, &[])),
        ("value of a is an array of the unknown type 77", &|f| f.array("a", 77, 0, &[])),
        ("value of a has the flag 2", &|f| f.raw("a", 7, &[2])),
        ("value of a has the flag 3", &|f| f.array("a", 7, 2, &[1, 3])),
        ("value of a is not UTF-8", &|f| f.raw("a", 8, &[1, 0, 0, 0, 0, 0, 0, 0, 0xff])),
        ("general.alignment is the integer 24", &|f| f.u32("general.alignment", 24)),
        ("general.alignment is the text", &|f| f.text("general.alignment", "x")),
        ("two tensors with the name t", &|f| {
            f.tensor("t", &[1], GgmlType::F32, four()).tensor("t", &[1], GgmlType::F32, four())
        }),
        ("tensor t has rows of 48 values, no multiple of the 32 of a Q8_0 block", &|f| {
            f.tensor("t", &[2, 48], GgmlType::Q8_0, vec![0; 102])
        }),
        ("tensor t has 5 dimensions", &|f| f.tensor("t", &[1; 5], GgmlType::F32, four())),
        ("tensor t has the empty shape [0, 4]", &|f| f.tensor("t", &[0, 4], GgmlType::F32, four())),
    ];
    for (words, change) in cases {
        let message = refusal(change);
        assert!(message.contains(words), "{words}: {message}");
    }
}

#[test]
fn tensors_at_wrong_places_are_refused() {
    let folder = Folder::new();
    let mut file = Writer::default();
    file.tensor("one", &[16], GgmlType::F32, vec![0; 64]).tensor("two", &[16], GgmlType::F32, vec![0; 64]);
    let bytes = file.bytes();
    let name = bytes.windows(3).position(|window| window == b"two").unwrap();
    let (kind, offset) = (name + 3 + 4 + 8, name + 3 + 4 + 8 + 4);
    assert!(folder.open(&bytes).is_ok());
    assert!(folder.refusal(&with_u64(&bytes, offset, 32)).contains("tensors one and two overlap"));
    assert!(folder.refusal(&with_u64(&bytes, offset, 0)).contains("overlap"));
    assert!(folder.refusal(&with_u64(&bytes, offset, 8)).contains("tensor two is at offset 8, no multiple of 32"));
    assert!(folder.refusal(&with_u64(&bytes, offset, 96)).contains("truncated: tensor two"));
    let mut unknown = bytes.clone();
    unknown[kind] = 250;
    assert!(folder.refusal(&unknown).contains("tensor two has the type 250"));
    unknown[kind] = GgmlType::IQ4_XS.id() as u8;
    assert!(folder.refusal(&unknown).contains("the 256 of a IQ4_XS block"));
}

/// Each pair's type is replaced by each other type: the file opens or is refused, and a getter
/// never panics.
#[test]
fn swapped_types_never_panic() {
    let folder = Folder::new();
    let bytes = whole().bytes();
    for key in ["general.architecture", "general.alignment", "a.u64", "a.f64", "a.texts", "a.i32s", "a.flags"] {
        let at = bytes.windows(key.len()).position(|window| window == key.as_bytes()).unwrap() + key.len();
        for kind in 0..14 {
            let mut changed = bytes.clone();
            changed[at] = kind;
            if let Ok(model) = folder.open(&changed) {
                touch(&model);
            }
        }
    }
}

/// Reads everything.
fn touch(model: &Gguf) {
    let metadata = model.metadata();
    for key in metadata.keys().map(str::to_owned).collect::<Vec<_>>() {
        let _ = (metadata.text(&key), metadata.count(&key), metadata.float(&key), metadata.flag(&key));
        let _ = (metadata.counts_by_layer(&key, 3), metadata.flags_by_layer(&key, 3));
        let _ = metadata.integers(&key).map(|found| found.map(Iterator::count));
        let _ = metadata.floats(&key).map(|found| found.map(Iterator::count));
        let _ = metadata.texts(&key).map(|found| found.map(|texts| texts.iter().count()));
    }
    for info in model.tensors() {
        let stored = model.tensor(&info.name).unwrap();
        assert_eq!(stored.bytes.len(), info.length);
        let values: usize = info.shape.iter().product();
        assert_eq!(values / info.kind.block_values() * info.kind.block_bytes(), info.length);
        let _ = (stored.floats(), stored.candle());
    }
}

proptest! {
    #[test]
    fn mutated_bytes_never_panic(changes in prop::collection::vec((0usize..1000, any::<u8>()), 1..6), end in 0usize..1400) {
        let folder = Folder::new();
        let mut bytes = whole().bytes();
        for (at, byte) in changes {
            bytes[at] = byte;
        }
        bytes.truncate(bytes.len().min(700 + end));
        match folder.open(&bytes) {
            Ok(model) => touch(&model),
            Err(error) => assert!(error.message.contains("m.gguf"), "{}", error.message),
        }
    }
}

/// Three parts of a model, the second without tensors.
fn parts() -> [Writer; 3] {
    [0u16, 1, 2].map(|number| {
        let mut part = Writer::default();
        if number == 0 {
            part.text("general.architecture", "llama");
        }
        part.u16("split.no", number).u16("split.count", 3).i32("split.tensors.count", 2);
        if number != 1 {
            part.tensor(&format!("t{number}"), &[1], GgmlType::F32, vec![number as u8; 4]);
        }
        part
    })
}

fn part_name(number: usize) -> String {
    format!("m-{number:05}-of-00003.gguf")
}

#[test]
fn any_part_of_a_split_model_opens_all() {
    let folder = Folder::new();
    for (at, part) in parts().iter().enumerate() {
        part.write(&folder.path(&part_name(at + 1)));
    }
    for number in 1..=3 {
        let model = Gguf::open(&folder.path(&part_name(number))).unwrap();
        assert_eq!(model.metadata().text("general.architecture").unwrap(), Some("llama"));
        assert_eq!(model.path(), folder.path(&part_name(1)));
        assert_eq!(model.paths().len(), 3);
        assert_eq!(model.tensor("t0").unwrap().bytes, [0; 4]);
        let last = model.tensor("t2").unwrap();
        assert_eq!((last.bytes, last.path), (&[2; 4][..], folder.path(&part_name(3)).as_path()));
    }
}

#[test]
fn what_is_wrong_with_a_part_is_named() {
    let folder = Folder::new();
    let write = || {
        for (at, part) in parts().iter().enumerate() {
            part.write(&folder.path(&part_name(at + 1)));
        }
    };
    let refusal = |path: &str| Gguf::open(&folder.path(path)).unwrap_err().message;
    write();
    fs_err::remove_file(folder.path(&part_name(2))).unwrap();
    let missing = refusal(&part_name(3));
    assert!(missing.contains(&format!("{}: part 2 of 3 is missing", part_name(2))), "{missing}");

    write();
    fs_err::rename(folder.path(&part_name(1)), folder.path("m.gguf")).unwrap();
    let renamed = refusal("m.gguf");
    assert!(renamed.contains("part 1 of 3, but its name does not end in -00001-of-00003.gguf"), "{renamed}");

    write();
    fs_err::copy(folder.path(&part_name(3)), folder.path(&part_name(2))).unwrap();
    let twice = refusal(&part_name(1));
    assert!(twice.contains("split.no is 2 and split.count is 3, but by its name it is part 2 of 3"), "{twice}");

    write();
    parts()[1].tensor("t2", &[1], GgmlType::F32, vec![0; 4]).write(&folder.path(&part_name(2)));
    let extra = refusal(&part_name(1));
    assert!(extra.contains("split.tensors.count is 2, but the 3 files have 3 tensors"), "{extra}");

    write();
    let mut same = parts();
    for (at, part) in same.iter_mut().enumerate() {
        let mut bare = Writer::default();
        bare.u16("split.no", at as u16).u16("split.count", 3).tensor("t", &[1], GgmlType::F32, vec![0; 4]);
        bare.write(&folder.path(&part_name(at + 1)));
        *part = bare;
    }
    let doubled = refusal(&part_name(2));
    assert!(doubled.contains(&format!("{}: tensor t is also in", part_name(2))) && doubled.contains(&part_name(1)));

    let mut beyond = Writer::default();
    beyond.u16("split.no", 3).u16("split.count", 3).write(&folder.path("m.gguf"));
    assert!(refusal("m.gguf").contains("split.no is 3, but split.count is 3"));
}
