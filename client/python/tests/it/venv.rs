//! The virtual environment of the suite: made once for each list of requirements, below the target folder.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// What the suite needs; and what it needs besides where torch has to be there.
const REQUIREMENTS: &str = "tests/requirements.txt";
const TORCH: &str = "tests/requirements-torch.txt";
/// Oldest Python that the package supports.
const OLDEST: (u32, u32) = (3, 9);

/// Why there is none.
pub(crate) struct Missing(pub(crate) String);

/// The interpreter of a virtual environment with everything in it.
pub(crate) fn python() -> Result<PathBuf, Missing> {
    let (system, version) = system()?;
    let requirements = fs::read(REQUIREMENTS).map_err(|error| Missing(error.to_string()))?;
    let mut hash = blake3::Hasher::new();
    hash.update(version.as_bytes()).update(&requirements);
    let name = format!("venv-{}", &hash.finalize().to_hex()[..16]);
    let venv = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let python = venv.join(if cfg!(windows) {
        "Scripts/python.exe"
    } else {
        "bin/python"
    });
    // Written last: what was interrupted is made anew.
    let complete = venv.join("complete");
    if !complete.exists() {
        println!(
            "making the Python suite's virtual environment, once: {}",
            venv.display()
        );
        let _ = fs::remove_dir_all(&venv);
        run(Command::new(system).args(["-m", "venv"]).arg(&venv))?;
        install(&python, REQUIREMENTS)?;
        fs::write(&complete, "").map_err(|error| Missing(error.to_string()))?;
    }
    if env::var_os("PREHEAT_REQUIRE_TORCH").is_some() && !has_torch(&python) {
        install(&python, TORCH)?;
    }
    Ok(python)
}

/// A Python that is new enough, and its version.
fn system() -> Result<(&'static str, String), Missing> {
    let mut seen = Vec::new();
    for name in ["python3", "python"] {
        let say = "import sys; print('%d.%d' % sys.version_info[:2])";
        let Ok(said) = Command::new(name).args(["-c", say]).output() else {
            continue;
        };
        let version = String::from_utf8_lossy(&said.stdout).trim().to_owned();
        let numbers = version.split_once('.').map(|(a, b)| (a.parse(), b.parse()));
        match numbers {
            Some((Ok(major), Ok(minor))) if (major, minor) >= OLDEST => return Ok((name, version)),
            _ => seen.push(format!("{name} is {version}")),
        }
    }
    let (major, minor) = OLDEST;
    Err(Missing(format!(
        "no Python {major}.{minor} or newer on the PATH {seen:?}"
    )))
}

fn install(python: &Path, requirements: &str) -> Result<(), Missing> {
    let mut pip = Command::new(python);
    pip.args(["-m", "pip", "install", "-q", "--disable-pip-version-check"]);
    // Bounds what a dead network costs.
    pip.args(["--timeout", "30", "--retries", "3", "-r", requirements]);
    run(&mut pip)
}

fn has_torch(python: &Path) -> bool {
    let find = "import importlib.util, sys; sys.exit(importlib.util.find_spec('torch') is None)";
    let status = Command::new(python).args(["-c", find]).status();
    status.is_ok_and(|status| status.success())
}

fn run(command: &mut Command) -> Result<(), Missing> {
    let command_line = format!("{command:?}");
    let done = command.stdin(Stdio::null()).output();
    match done {
        Ok(done) if done.status.success() => Ok(()),
        Ok(done) => {
            let said = String::from_utf8_lossy(&done.stderr);
            let last: Vec<_> = said.lines().rev().take(3).collect();
            Err(Missing(format!("{command_line}: {}", last.join(" | "))))
        }
        Err(error) => Err(Missing(format!("{command_line}: {error}"))),
    }
}
