//! Calls to the macOS kernel and libraries, without any conversion: conversions are in other files
//! and tested on every system.

use std::ffi::{c_char, c_int, c_void};
use std::io::Error;
use std::mem::{MaybeUninit, size_of};

/// The bytes of `struct vm_statistics64` that this kernel fills in.
///
/// # Errors
/// When the kernel refuses.
pub(super) fn vm_statistics() -> Result<Vec<u8>, String> {
    // The structure with the compressor's fields (HOST_VM_INFO64_REV1_COUNT), which every kernel
    // since OS X 10.9 knows. With a larger count than it knows, the kernel logs a complaint.
    let mut words = [0_i32; super::layout::vm_statistics64::WORDS];
    let mut count = words.len() as libc::mach_msg_type_number_t;
    // SAFETY: `words` has room for `count` integers, and the kernel writes no more than that.
    let status = unsafe { libc::host_statistics64(host(), libc::HOST_VM_INFO64, words.as_mut_ptr(), &mut count) };
    if status != libc::KERN_SUCCESS {
        return Err(format!("host_statistics64 failed with error {status}"));
    }
    Ok(words.iter().take(count as usize).flat_map(|word| word.to_ne_bytes()).collect())
}

/// This machine's port, acquired once: each call of `mach_host_self` creates a new right that is
/// never released.
fn host() -> libc::mach_port_t {
    static HOST: std::sync::OnceLock<libc::mach_port_t> = std::sync::OnceLock::new();
    // SAFETY: takes no argument and returns a port that stays valid for the life of this process.
    #[allow(deprecated)] // libc points to another crate, for the same call
    *HOST.get_or_init(|| unsafe { libc::mach_host_self() })
}

/// Page size, as the kernel reports it for this process.
pub(super) fn page_bytes() -> Option<u64> {
    // SAFETY: takes and returns a number.
    u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).ok().filter(|bytes| *bytes > 0)
}

/// Bytes in the swap files that are in use (`sysctl vm.swapusage`).
///
/// # Errors
/// When the kernel refuses.
pub(super) fn swap_used_bytes() -> Result<u64, String> {
    let mut usage = MaybeUninit::<libc::xsw_usage>::zeroed();
    let mut length = size_of::<libc::xsw_usage>();
    // SAFETY: the name ends in NUL; `usage` has room for `length` bytes; nothing is set.
    let status = unsafe {
        libc::sysctlbyname(c"vm.swapusage".as_ptr(), usage.as_mut_ptr().cast(), &mut length, std::ptr::null_mut(), 0)
    };
    if status != 0 || length != size_of::<libc::xsw_usage>() {
        return Err(format!("sysctl vm.swapusage: {}", Error::last_os_error()));
    }
    // SAFETY: plain numbers, all of them written.
    Ok(unsafe { usage.assume_init() }.xsu_used)
}

/// The bytes of `struct rusage_info_v4` for a process of this user.
///
/// # Errors
/// When the process does not exist or belongs to another user.
pub(super) fn usage(pid: u32) -> Result<Vec<u8>, String> {
    let mut bytes = vec![0_u8; size_of::<libc::rusage_info_v4>()];
    let pid = c_int::try_from(pid).map_err(|e| e.to_string())?;
    // SAFETY: the buffer has the size of the structure that the flavour names.
    let status = unsafe { libc::proc_pid_rusage(pid, libc::RUSAGE_INFO_V4, bytes.as_mut_ptr().cast()) };
    if status != 0 {
        return Err(format!("proc_pid_rusage: {}", Error::last_os_error()));
    }
    Ok(bytes)
}

/// The bytes of `struct proc_taskinfo` for a process of this user.
///
/// # Errors
/// When the process does not exist or belongs to another user.
pub(super) fn task(pid: u32) -> Result<Vec<u8>, String> {
    let mut bytes = vec![0_u8; size_of::<libc::proc_taskinfo>()];
    let pid = c_int::try_from(pid).map_err(|e| e.to_string())?;
    // SAFETY: the buffer has the size that is passed to the call.
    let written =
        unsafe { libc::proc_pidinfo(pid, libc::PROC_PIDTASKINFO, 0, bytes.as_mut_ptr().cast(), bytes.len() as c_int) };
    if usize::try_from(written) != Ok(bytes.len()) {
        return Err(format!("proc_pidinfo: {}", Error::last_os_error()));
    }
    Ok(bytes)
}

/// Sets the high-water mark of a process's footprint over an interval to the current footprint
/// (XNU's libproc, without a public header: an older or later system may lack it).
///
/// # Errors
/// When the system has no such function, or refuses.
pub(super) fn reset_footprint_interval(pid: u32) -> Result<(), String> {
    type Reset = unsafe extern "C" fn(c_int) -> c_int;
    static FOUND: std::sync::OnceLock<Option<Reset>> = std::sync::OnceLock::new();
    let found = FOUND.get_or_init(|| {
        // SAFETY: the name ends in NUL; the call only looks up a symbol.
        let symbol = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"proc_reset_footprint_interval".as_ptr()) };
        // SAFETY: libproc declares it as `int proc_reset_footprint_interval(pid_t pid)`.
        (!symbol.is_null()).then(|| unsafe { std::mem::transmute::<*mut c_void, Reset>(symbol) })
    });
    let reset = found.ok_or("this macOS has no function `proc_reset_footprint_interval`")?;
    let pid = c_int::try_from(pid).map_err(|e| e.to_string())?;
    // SAFETY: takes and returns a number.
    match unsafe { reset(pid) } {
        0 => Ok(()),
        _ => Err(format!("proc_reset_footprint_interval: {}", Error::last_os_error())),
    }
}

/// Duration of a tick of the kernel's clock in nanoseconds, as a fraction: 125/3 on Apple Silicon.
#[allow(deprecated)] // libc points to another crate, for the same call
pub(super) fn tick() -> (u32, u32) {
    let mut timebase = libc::mach_timebase_info { numer: 0, denom: 0 };
    // SAFETY: writes two numbers to `timebase`.
    unsafe { libc::mach_timebase_info(&mut timebase) };
    (timebase.numer, timebase.denom)
}

/// Thermal and power state, as the system reports it.
pub(super) fn state() -> super::state::State {
    let process = objc2_foundation::NSProcessInfo::processInfo();
    super::state::State {
        thermal: process.thermalState().0 as i64,
        low_power_mode: process.isLowPowerModeEnabled(),
        power: power_source(),
    }
}

/// The power source: `AC Power`, `Battery Power` or `UPS Power` (IOKit's IOPSKeys.h).
fn power_source() -> Option<String> {
    type Object = *const c_void;
    const UTF_8: u32 = 0x0800_0100;
    #[link(name = "IOKit", kind = "framework")]
    unsafe extern "C" {
        /// <https://developer.apple.com/documentation/iokit/1523839-iopscopypowersourcesinfo>
        fn IOPSCopyPowerSourcesInfo() -> Object;
        /// <https://developer.apple.com/documentation/iokit/1523870-iopsgetprovidingpowersourcetype>
        fn IOPSGetProvidingPowerSourceType(sources: Object) -> Object;
    }
    #[link(name = "CoreFoundation", kind = "framework")]
    unsafe extern "C" {
        /// <https://developer.apple.com/documentation/corefoundation/cfstringgetcstring(_:_:_:_:)>
        fn CFStringGetCString(string: Object, buffer: *mut c_char, size: isize, encoding: u32) -> u8;
        /// <https://developer.apple.com/documentation/corefoundation/cfrelease(_:)>
        fn CFRelease(object: Object);
    }
    let mut buffer = [0_u8; 64];
    // SAFETY: the result of a "copy" function is ours and is released once; the result of a "get"
    // function lives as long as that and is read before. The buffer has the given length, and the
    // text in it ends in NUL when the call succeeds.
    let read = unsafe {
        let sources = IOPSCopyPowerSourcesInfo();
        if sources.is_null() {
            return None;
        }
        let name = IOPSGetProvidingPowerSourceType(sources);
        let read =
            !name.is_null() && CFStringGetCString(name, buffer.as_mut_ptr().cast(), buffer.len() as isize, UTF_8) != 0;
        CFRelease(sources);
        read
    };
    let text = std::ffi::CStr::from_bytes_until_nul(&buffer).ok().filter(|_| read)?;
    text.to_str().ok().map(str::to_owned)
}
