//! Builds the console: installs its pinned packages, checks its types, and bundles `ui/` into `dist/`.
//!
//! With `--screenshots`, it takes the picture of the README from a demo. With `--measure`, it measures the waits of a reader.
//! Only this task needs Node, and for the picture and the measurement a Chromium. `cargo build` uses the committed `dist/`.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitCode, Stdio};

const USAGE: &str = "usage: cargo xtask console [--check | --screenshots | --measure]

With --check, no file is written, and a difference between dist/ and the result is an error.
With --screenshots, the picture of the README is taken from a new demo, with the Chromium in COHORTS_TEST_CHROMIUM or that of Debian.
With --measure, the first view, the counts of the builder and the scrolling of members are measured in this Chromium, on the running
service in COHORTS_URL with the personal key in COHORTS_KEY.";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(2).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match arguments.as_slice() {
        [] => build(&["build.mjs"]),
        ["--check"] => build(&["build.mjs", "--check"]),
        ["--screenshots"] => take_screenshots(),
        ["--measure"] => measure(),
        _ => Err(USAGE.to_owned()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/cohorts-console/ui")
}

/// Installs the pinned packages. The bundler is a program in an optional package, so no package needs to run a script.
fn install(folder: &Path) -> Result<(), String> {
    let arguments = ["ci", "--ignore-scripts", "--loglevel=error"];
    run(folder, "npm", &arguments)
}

fn build(bundle: &[&str]) -> Result<(), String> {
    let folder = folder();
    install(&folder)?;
    run(&folder, "npm", &["run", "--silent", "check"])?;
    run(&folder, "node", bundle)
}

fn run(folder: &Path, program: &str, arguments: &[&str]) -> Result<(), String> {
    let status = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{program} {}: {status}", arguments.join(" "))),
        Err(error) => Err(format!(
            "cannot run {program}: {error}. The console needs Node 20 or later with npm."
        )),
    }
}

fn measure() -> Result<(), String> {
    let folder = folder();
    install(&folder)?;
    run(&folder, "node", &["measure.mjs"])
}

/// A demo, which ends when it is dropped.
struct Demo {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Drop for Demo {
    fn drop(&mut self) {
        // The private Postgres of the demo ends with its program.
        let _ = Command::new("kill")
            .arg(self.child.id().to_string())
            .status();
        let _ = self.child.wait();
    }
}

fn take_screenshots() -> Result<(), String> {
    let folder = folder();
    install(&folder)?;
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    run(
        &folder,
        &cargo,
        &["build", "--package", "cohorts-server", "--locked"],
    )?;
    let data = std::env::temp_dir().join(format!("cohorts-pictures-{}", std::process::id()));
    let taken = start_demo(&data).and_then(|mut demo| {
        let address = demo.console()?;
        run(&folder, "node", &["screenshots.mjs", &address])
    });
    // What is left of the data is in the temporary folder.
    let _ = std::fs::remove_dir_all(&data);
    taken
}

fn start_demo(data: &Path) -> Result<Demo, String> {
    let program = program()?;
    let mut command = Command::new(&program);
    command.args(["demo", "--quiet", "--people", "5000", "--events", "50000"]);
    command.args(["--listen", "127.0.0.1:0", "--data-dir"]);
    let started = command.arg(data).stdout(Stdio::piped()).spawn();
    let mut child =
        started.map_err(|error| format!("cannot run {}: {error}", program.display()))?;
    let output = child.stdout.take().ok_or("the demo has no output")?;
    Ok(Demo {
        child,
        output: BufReader::new(output),
    })
}

/// The debug build of the service, next to this program.
fn program() -> Result<PathBuf, String> {
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    Ok(own.with_file_name("cohorts"))
}

impl Demo {
    /// The address of the console, when the whole demo is loaded.
    fn console(&mut self) -> Result<String, String> {
        let mut address = None;
        for line in self.output.by_ref().lines() {
            let line = line.map_err(|error| error.to_string())?;
            match line.split_whitespace().collect::<Vec<_>>()[..] {
                ["console", one] => address = Some(one.to_owned()),
                ["key", _] => {
                    return address.ok_or_else(|| "the demo printed no address".to_owned());
                }
                _ => {}
            }
        }
        Err("the demo has ended".to_owned())
    }
}
