//! Stops a build that would fail half an hour later: MLX compiles Metal kernels, for which Xcode's
//! Metal toolchain must be installed. Nothing is checked on other systems.

use std::env::var;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let is = |name: &str, value: &str| var(name).is_ok_and(|found| found == value);
    let apple_silicon = is("CARGO_CFG_TARGET_OS", "macos") && is("CARGO_CFG_TARGET_ARCH", "aarch64");
    // A lint on another system compiles no kernels.
    let here = var("HOST").is_ok_and(|host| host.contains("apple-darwin"));
    if var("CARGO_FEATURE_METAL").is_err() || !apple_silicon || !here {
        return;
    }
    println!("cargo::rerun-if-env-changed=PATH");
    let compiler = Command::new("xcrun").args(["-sdk", "macosx", "metal", "--version"]).output();
    let why = match compiler {
        Ok(output) if output.status.success() => return,
        Ok(output) => String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or("it failed").to_owned(),
        Err(error) => error.to_string(),
    };
    println!("cargo::error=the Metal compiler is missing, which MLX needs: `xcrun metal --version`: {why}");
    println!("cargo::error=either install it (a whole Xcode): xcodebuild -downloadComponent MetalToolchain");
    println!(
        "cargo::error=or build without MLX (candle on the CPU, and mlx_lm through its adapter): cargo build --release -p \
         inferometer --no-default-features --features engine"
    );
}
