//! Generates code: that of `cohorts-api` and `cohorts-client` from `openapi.yaml`, or a server crate from another document.
//!
//! It must not depend on generated code, so that it runs when that code does not compile.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use openapi_actix::{Config, Document, Files, KeyRule, Layout, Rules, Runtime, generate};

const USAGE: &str = "usage: cargo xtask codegen [--check]
       cargo xtask codegen --from DOCUMENT --into FOLDER [--check]

Without --from, the document is openapi.yaml, and the folder is the workspace.
With --check, no file is written, and a difference is an error.";

fn main() -> ExitCode {
    match run(&std::env::args().skip(2).collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<(), String> {
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let (arguments, check) = match arguments.split_last() {
        Some((&"--check", rest)) => (rest, true),
        _ => (arguments.as_slice(), false),
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    match arguments {
        [] => finish(
            &files(&root.join("openapi.yaml"), "openapi.yaml", &cohorts())?,
            &root,
            check,
        ),
        ["--from", from, "--into", into] => {
            let (from, into) = (Path::new(from), Path::new(into));
            let name = from
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or("openapi.yaml");
            finish(&files(from, name, &package(into))?, into, check)
        }
        _ => Err(USAGE.to_owned()),
    }
}

fn files(path: &Path, name: &str, config: &Config) -> Result<Files, String> {
    let text = fs::read_to_string(path)
        .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let document = Document::parse(name, &text).map_err(|findings| findings.to_string())?;
    generate(&document, config).map_err(|findings| findings.to_string())
}

fn finish(files: &Files, folder: &Path, check: bool) -> Result<(), String> {
    if !check {
        return files.write(folder).map_err(|error| error.to_string());
    }
    match files.diff(folder) {
        diff if diff.is_empty() => Ok(()),
        diff => Err(format!(
            "{diff}\nThe generated files are out of date. Run the command without --check, and commit the result."
        )),
    }
}

/// A crate for any document. The folder has its name.
fn package(folder: &Path) -> Config {
    let name = folder
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let name: String = name
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || "-_".contains(*c))
        .collect();
    let is_valid = name.starts_with(|c: char| c.is_ascii_alphabetic());
    let defaults = Config::default();
    Config {
        command: "cargo xtask codegen".to_owned(),
        layout: Layout {
            package: Some(if is_valid { name } else { "server".to_owned() }),
            ..defaults.layout
        },
        ..defaults
    }
}

/// The rules of this project, and the paths of its generated files.
fn cohorts() -> Config {
    Config {
        command: "cargo xtask codegen".to_owned(),
        runtime: Runtime::Own,
        layout: Layout {
            types: "crates/cohorts-api/src/generated/types.rs".to_owned(),
            server: "crates/cohorts-api/src/generated/server.rs".to_owned(),
            client: Some("crates/cohorts-client/src/generated.rs".to_owned()),
            package: None,
        },
        // PostHog sends numbers too.
        client_types: vec![("PersonId".to_owned(), "crate::PersonId".to_owned())],
        rules: Rules {
            trailing_slash: true,
            one_tag: true,
            snake_case_ids: true,
            envelope: Some("Error".to_owned()),
            key: Some(KeyRule {
                schemes: ["personalApiKey", "personalApiKeyInQuery"]
                    .map(str::to_owned)
                    .to_vec(),
                handled: ["projectToken", "projectTokenInHeader"]
                    .map(str::to_owned)
                    .to_vec(),
                scopes: "x-required-scopes".to_owned(),
            }),
            known_extensions: true,
            missing_body_is_empty: true,
            descriptions: true,
            statuses_with_parsed_body: vec![400, 415],
            statuses_with_body: vec![413],
            statuses_with_key: vec![401, 403, 429],
            idempotency_key: Some("Idempotency-Key".to_owned()),
            common_headers: ["Allow", "Retry-After", "X-Request-Id"]
                .map(str::to_owned)
                .to_vec(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the command for a document of the generator's tests, with an edit, and returns the folder of the output.
    fn generate_petstore(
        name: &str,
        from: &str,
        to: &str,
    ) -> (Result<(), String>, std::path::PathBuf) {
        let documents =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/openapi-actix/tests/documents");
        let text = fs::read_to_string(documents.join("petstore.yaml")).unwrap();
        let folder = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let document = folder.join("pets.yaml");
        fs::write(&document, text.replacen(from, to, 1)).unwrap();
        let into = folder.join("pets");
        let arguments = [
            "--from",
            document.to_str().unwrap(),
            "--into",
            into.to_str().unwrap(),
        ];
        (run(&arguments.map(str::to_owned)), folder)
    }

    #[test]
    fn crate_of_another_document_has_no_reference_to_this_workspace() {
        let (result, folder) = generate_petstore("codegen-crate", "", "");
        assert_eq!(result, Ok(()));
        let manifest = fs::read_to_string(folder.join("pets/Cargo.toml")).unwrap();
        assert!(manifest.contains("name = \"pets\""), "{manifest}");
        for word in ["path =", "workspace = true", "cohorts"] {
            assert!(!manifest.contains(word), "{manifest}");
        }
        assert!(folder.join("pets/src/support/mod.rs").exists());
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn findings_are_an_error_and_nothing_is_written() {
        let (result, folder) = generate_petstore("codegen-findings", "maximum: 100", "not: {}");
        let error = result.unwrap_err();
        let finding = "pets.yaml: paths./pets.get.parameters.limit.schema: `not` is not supported";
        assert_eq!(error, finding);
        assert!(!folder.join("pets").exists());
        fs::remove_dir_all(folder).unwrap();
    }
}
