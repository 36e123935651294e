//! The device of MLX on this machine, and whether it works.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::sync::OnceLock;

#[cfg(not(feature = "mlx"))]
use mlx_rs::mlx_sys;
use mlx_rs::{Array, Device, DeviceType, Dtype};

use crate::serial::alone;

/// MLX's default device, after a test computation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub gpu: bool,
    /// Such as `metal: Apple M2 Max` or `cpu`.
    pub name: String,
    /// Facts for the receipt: the chip and its memory limits in bytes, if MLX reports them.
    pub details: BTreeMap<String, String>,
    /// Why it does not compute in bf16.
    pub no_bf16: Option<String>,
}

impl Found {
    /// Why speed measured here says little about the chip: then `auto` takes candle.
    #[must_use]
    pub fn doubt(&self) -> Option<String> {
        doubt(&self.name, self.no_bf16.as_deref())
    }
}

/// Hosted runners' GPUs are virtual: an older GPU family than any Apple Silicon, without bf16.
fn doubt(name: &str, no_bf16: Option<&str>) -> Option<String> {
    let family = no_bf16.map(|why| format!("bf16 does not work on it ({why})"));
    match name.contains("Paravirtual") {
        true => {
            let family = family.unwrap_or_else(|| "its GPU family is not the chip's".to_owned());
            Some(format!("MLX's GPU is that of a virtual machine ({name}), as on hosted runners: {family}"))
        }
        false => family.map(|family| format!("MLX's device is {name}, but {family}")),
    }
}

/// MLX's keys for facts about a device, with their names in a receipt.
const SIZES: [(&CStr, &str); 3] = [
    (c"memory_size", "device_memory_bytes"),
    (c"max_recommended_working_set_size", "device_working_set_bytes"),
    (c"max_buffer_length", "device_buffer_bytes"),
];

/// The default device, or why it does not work. The first call initializes MLX in this process and
/// must not be made within [`alone`].
///
/// # Errors
/// MLX's error, or a wrong sum (as on a virtual machine's GPU).
pub fn device() -> Result<&'static Found, String> {
    static FOUND: OnceLock<Result<Found, String>> = OnceLock::new();
    FOUND.get_or_init(|| alone(find)).as_ref().map_err(Clone::clone)
}

fn find() -> Result<Found, String> {
    // Installs MLX's error handler; without it, MLX ends the process on an error.
    let device = Device::try_default().map_err(|e| format!("MLX has no device: {e}"))?;
    let kind = device.get_type().map_err(|e| format!("MLX does not know its device: {e}"))?;
    let gpu = matches!(kind, DeviceType::Gpu);
    let info = if gpu { Some(Info::of_gpu().ok_or("MLX finds no Metal device here")?) } else { None };
    adds_up(Dtype::Float32)?;
    let no_bf16 = adds_up(Dtype::Bfloat16).err();
    let chip = info.as_ref().and_then(|info| info.text(c"device_name"));
    let mut details = BTreeMap::new();
    for (name, value) in [
        ("mlx", version()),
        ("chip", chip.clone()),
        ("gpu_architecture", info.as_ref().and_then(|info| info.text(c"architecture"))),
    ] {
        details.extend(value.map(|value| (name.to_owned(), value)));
    }
    for (key, name) in SIZES {
        let size = info.as_ref().and_then(|info| info.size(key));
        details.extend(size.map(|bytes| (name.to_owned(), bytes.to_string())));
    }
    details.extend(no_bf16.iter().map(|why| ("no_bf16".to_owned(), why.clone())));
    let name = match (gpu, chip) {
        (false, _) => "cpu".to_owned(),
        (true, None) => "metal".to_owned(),
        (true, Some(chip)) => format!("metal: {chip}"),
    };
    Ok(Found { gpu, name, details, no_bf16 })
}

/// A small computation with a known result, exact in every dtype: a device may exist and compute
/// nothing, or wrong results.
fn adds_up(dtype: Dtype) -> Result<(), String> {
    let failed = |e: mlx_rs::error::Exception| format!("MLX's device does not work: {e}");
    let count = Array::from_slice(&[1f32, 2.0, 3.0, 4.0], &[2, 2]).as_dtype(dtype).map_err(failed)?;
    let sum = count.matmul(&count).and_then(|square| square.add(&count));
    let square = sum.and_then(|sum| sum.as_dtype(Dtype::Float32)).map_err(failed)?;
    square.eval().map_err(failed)?;
    match square.try_as_slice::<f32>() {
        Ok([8.0, 12.0, 18.0, 26.0]) => Ok(()),
        Ok(wrong) => Err(format!("MLX's device computes wrongly: a small product is {wrong:?}")),
        Err(e) => Err(format!("MLX's device does not work: {e}")),
    }
}

/// The library's version.
fn version() -> Option<String> {
    // SAFETY: MLX fills the string handle; its text is read before the handle is freed, once.
    unsafe {
        let mut handle = mlx_sys::mlx_string_new();
        let status = mlx_sys::mlx_version(&mut handle);
        let text = mlx_sys::mlx_string_data(handle);
        let version = (status == 0 && !text.is_null()).then(|| CStr::from_ptr(text).to_string_lossy().into_owned());
        mlx_sys::mlx_string_free(handle);
        version
    }
}

/// MLX's description of a device.
struct Info(mlx_sys::mlx_device_info);

impl Info {
    /// `None` when there is no such device.
    fn of_gpu() -> Option<Self> {
        // SAFETY: the device handle outlives the call; `drop` frees the description.
        unsafe {
            let device = mlx_sys::mlx_device_new_type(mlx_sys::mlx_device_type__MLX_GPU, 0);
            let mut info = Info(mlx_sys::mlx_device_info_new());
            let status = mlx_sys::mlx_device_info_get(&mut info.0, device);
            mlx_sys::mlx_device_free(device);
            (status == 0).then_some(info)
        }
    }

    fn has(&self, key: &CStr) -> bool {
        let mut has = false;
        // SAFETY: the handle is live and the text ends in NUL.
        let status = unsafe { mlx_sys::mlx_device_info_has_key(&mut has, self.0, key.as_ptr()) };
        status == 0 && has
    }

    fn text(&self, key: &CStr) -> Option<String> {
        let mut text = std::ptr::null();
        // SAFETY: as above; the text belongs to the description and is copied at once.
        unsafe {
            let status =
                if self.has(key) { mlx_sys::mlx_device_info_get_string(&mut text, self.0, key.as_ptr()) } else { 1 };
            (status == 0 && !text.is_null()).then(|| CStr::from_ptr(text).to_string_lossy().into_owned())
        }
    }

    fn size(&self, key: &CStr) -> Option<usize> {
        let mut size = 0;
        // SAFETY: as above.
        let status = if self.has(key) {
            unsafe { mlx_sys::mlx_device_info_get_size(&mut size, self.0, key.as_ptr()) }
        } else {
            1
        };
        (status == 0).then_some(size)
    }
}

impl Drop for Info {
    fn drop(&mut self) {
        // SAFETY: freed once.
        unsafe { mlx_sys::mlx_device_info_free(self.0) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_device_is_tried_and_described() {
        let found = device().expect("MLX is in this build, so its default device should work");
        assert_eq!(found.gpu, found.name.starts_with("metal"));
        assert_eq!(found.details["mlx"], super::super::NAME.strip_prefix("mlx ").unwrap());
        assert_eq!(found.gpu, found.details.contains_key("device_memory_bytes"), "{found:?}");
        assert_eq!(found.no_bf16.is_some(), found.details.contains_key("no_bf16"));
    }

    #[test]
    fn a_virtual_gpu_and_one_without_bf16_are_doubted() {
        assert_eq!(doubt("metal: Apple M2 Max", None), None);
        assert_eq!(doubt("cpu", None), None);
        let runner = doubt("metal: Apple Paravirtual device", Some("no such kernel")).unwrap();
        assert!(runner.contains("virtual machine") && runner.contains("no such kernel"), "{runner}");
        assert!(doubt("metal: Apple Paravirtual device", None).unwrap().contains("GPU family"));
        assert!(doubt("metal: Apple A10", Some("error")).unwrap().contains("bf16 does not work"));
    }
}
