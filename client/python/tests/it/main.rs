//! Runs the Python suite, in a virtual environment that is made once; and is the replica that the suite
//! starts. See `venv` and `package` for what is put where.

mod package;
mod venv;

use std::{
    env,
    process::{Command, ExitCode},
};

use clap::Parser;

/// First argument of a replica.
const SERVE: &str = "serve";

/// A replica, as the suite starts it.
#[derive(Debug, Parser)]
struct Cli {
    #[command(flatten)]
    args: preheat_server::Args,
}

fn main() -> ExitCode {
    let args: Vec<String> = env::args().collect();
    match args.get(1).map(String::as_str) {
        Some(SERVE) => serve(&args[1..]),
        // What `cargo test` and its front ends ask of every test binary.
        Some("--list") => {
            println!("python_suite: test\n");
            ExitCode::SUCCESS
        }
        _ if filtered_out(&args[1..]) => ExitCode::SUCCESS,
        _ => suite(),
    }
}

fn serve(args: &[String]) -> ExitCode {
    match preheat_server::run(Cli::parse_from(args).args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("preheat-server: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether other tests are asked for by name.
fn filtered_out(args: &[String]) -> bool {
    let mut names = args.iter().filter(|arg| !arg.starts_with('-')).peekable();
    names.peek().is_some() && !names.any(|name| "python_suite".contains(name.as_str()))
}

fn suite() -> ExitCode {
    let python = match venv::python() {
        Ok(python) => python,
        Err(venv::Missing(why)) => {
            println!("SKIPPED: the Python suite did not run: {why}");
            // Where it has to run, not to run is a failure.
            let must = env::var_os("PREHEAT_REQUIRE_TORCH").is_some();
            return if must {
                ExitCode::FAILURE
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    let package = package::lay_out().expect("the package can be copied below the target folder");
    let status = Command::new(python)
        .args(["-m", "pytest", "-q", "-p", "no:cacheprovider"])
        .args(
            env::var("PREHEAT_PYTEST")
                .unwrap_or_default()
                .split_whitespace(),
        )
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("PYTHONPATH", package)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("PREHEAT_TEST_SERVER", env::current_exe().expect("it runs"))
        .status()
        .expect("the interpreter of the virtual environment runs");
    if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
