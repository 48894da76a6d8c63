//! The package as a wheel would lay it out: its Python files beside the module that cargo built for this
//! test. (`.ci/run` installs it with pip; here that would compile everything twice.)

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

/// A folder to import `preheat` from.
pub(crate) fn lay_out() -> io::Result<PathBuf> {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("python");
    let package = root.join("preheat");
    if package.exists() {
        fs::remove_dir_all(&package)?;
    }
    fs::create_dir_all(&package)?;
    for file in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("python/preheat"))? {
        let file = file?;
        if file.file_type()?.is_file() {
            fs::copy(file.path(), package.join(file.file_name()))?;
        }
    }
    let (built, name) = if cfg!(windows) {
        ("_core.dll", "_core.pyd")
    } else if cfg!(target_os = "macos") {
        ("lib_core.dylib", "_core.abi3.so")
    } else {
        ("lib_core.so", "_core.abi3.so")
    };
    let test = env::current_exe()?;
    let beside = test.parent().unwrap_or(Path::new("."));
    fs::copy(beside.join(built), package.join(name))?;
    Ok(root)
}
