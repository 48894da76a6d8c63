//! The virtual environment of the suite: made once for each list of requirements, below the target folder.

use std::{
    env, fs,
    io::Read,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

/// What the suite needs; and what it needs besides where torch has to be there.
const REQUIREMENTS: &str = "tests/requirements.txt";
const TORCH: &str = "tests/requirements-torch.txt";
/// Oldest Python that the package supports.
const OLDEST: (u32, u32) = (3, 9);
/// To make an environment and to install what is small, 40 MB: minutes, where the network is slow.
const SMALL: Duration = Duration::from_secs(10 * 60);
/// To install torch: on Linux some 3 GB with what it depends on, at three megabytes a second.
const LARGE: Duration = Duration::from_secs(20 * 60);

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
        run(Command::new(system).args(["-m", "venv"]).arg(&venv), SMALL)?;
        install(&python, REQUIREMENTS, SMALL)?;
        fs::write(&complete, "").map_err(|error| Missing(error.to_string()))?;
    }
    if env::var_os("PREHEAT_REQUIRE_TORCH").is_some() {
        // Asks nobody where everything is there.
        install(&python, TORCH, LARGE)?;
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

fn install(python: &Path, requirements: &str, bound: Duration) -> Result<(), Missing> {
    let mut pip = Command::new(python);
    pip.args(["-m", "pip", "install", "-q", "--disable-pip-version-check"]);
    // Of one connection: a dead network is found out long before the bound.
    pip.args(["--timeout", "30", "--retries", "3", "-r", requirements]);
    run(&mut pip, bound).map_err(|Missing(why)| {
        let advice = "pip takes its index and proxy from PIP_INDEX_URL and HTTPS_PROXY";
        Missing(format!(
            "pip could not install {requirements} ({advice}): {why}"
        ))
    })
}

/// Runs a command to its end, or kills it when it takes too long.
fn run(command: &mut Command, bound: Duration) -> Result<(), Missing> {
    let command_line = format!("{command:?}");
    let failed = |why: String| Missing(format!("{command_line}: {why}"));
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = child.spawn().map_err(|error| failed(error.to_string()))?;
    let mut stderr = child.stderr.take().expect("it is piped");
    let (sender, over) = mpsc::channel();
    thread::spawn(move || {
        let mut said = Vec::new();
        let _ = stderr.read_to_end(&mut said);
        let _ = sender.send(said);
    });
    // What it says ends when it does.
    let said = over.recv_timeout(bound).map_err(|_| {
        let _ = child.kill();
        failed(format!("not done after {} s", bound.as_secs()))
    });
    let status = child.wait().map_err(|error| failed(error.to_string()))?;
    let said = said?;
    if status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&said);
    // The warnings before are of attempts.
    let errors: Vec<_> = said
        .lines()
        .filter(|line| line.starts_with("ERROR"))
        .collect();
    let last = errors.last().copied().or_else(|| said.lines().last());
    Err(failed(last.unwrap_or("it does not say why").to_owned()))
}
