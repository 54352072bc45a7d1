//! Golden documents: their committed output is what the generator writes. `golden.rs` compiles it.
//!
//! `OPENAPI_ACTIX_BLESS=1 cargo test -p openapi-actix --test documents` writes the output.

use std::path::Path;

use openapi_actix::{Config, Document, generate};
use serde_json::{Value, json};

const NAMES: [&str; 8] = [
    "bodies",
    "modern",
    "names",
    "parameters",
    "petstore",
    "responses",
    "schemas",
    "trains",
];

fn read(name: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/documents");
    std::fs::read_to_string(root.join(name)).expect("a document")
}

#[test]
fn output_of_each_document_is_committed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    for name in NAMES {
        let file = format!("{name}.yaml");
        let mut config = Config::default();
        config.layout.package = None;
        config.layout.types = "types.rs".to_owned();
        config.layout.server = "server.rs".to_owned();
        let document = Document::parse(&file, &read(&file)).unwrap();
        let files = generate(&document, &config).unwrap_or_else(|findings| panic!("{findings}"));
        let folder = root.join(name);
        if std::env::var_os("OPENAPI_ACTIX_BLESS").is_some() {
            files.write(&folder).unwrap();
        }
        let diff = files.diff(&folder);
        assert!(diff.is_empty(), "{diff}");
    }
}

/// Numbers that depend on a seed alone.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound.max(1)
    }
}

/// All places in a document, as JSON pointers.
fn pointers(value: &Value, pointer: String, pointers_found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                let name = name.replace('~', "~0").replace('/', "~1");
                pointers(member, format!("{pointer}/{name}"), pointers_found);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                pointers(item, format!("{pointer}/{index}"), pointers_found);
            }
        }
        _ => {}
    }
    pointers_found.push(pointer);
}

/// Changes one place of a document: removes it, replaces it by another part, or by a value of another type.
fn mutate(document: &mut Value, dice: &mut Dice) {
    let mut places = Vec::new();
    pointers(document, String::new(), &mut places);
    let place = places[dice.below(places.len())].clone();
    let other = document
        .pointer(&places[dice.below(places.len())])
        .cloned()
        .unwrap_or_default();
    let values = [
        json!(null),
        json!(""),
        json!("{"),
        json!(-1),
        json!(1.5),
        json!([]),
        json!({}),
        json!(true),
        json!("é/{a}"),
        json!("#/components/schemas/Pet"),
    ];
    let (parent, name) = place.rsplit_once('/').unwrap_or(("", ""));
    let name = name.replace("~1", "/").replace("~0", "~");
    match (dice.below(4), document.pointer_mut(parent)) {
        (0, Some(Value::Object(members))) => drop(members.remove(&name)),
        (1, Some(Value::Object(members))) => {
            let value = members.remove(&name).unwrap_or_default();
            let names = [
                "$ref", "allOf", "oneOf", "type", "enum", "+", "a.b", "default", "", "4XX",
            ];
            members.insert(names[dice.below(names.len())].to_owned(), value);
        }
        (2, _) => *document.pointer_mut(&place).expect("a place") = other,
        _ => {
            *document.pointer_mut(&place).expect("a place") =
                values[dice.below(values.len())].clone()
        }
    }
}

/// Mutated documents give files of valid Rust, or findings, and never a panic.
#[test]
fn mutated_documents_cause_no_panic() {
    let mut accepted = 0;
    for seed in 0..600 {
        let mut dice = Dice(seed);
        let name = NAMES[seed as usize % NAMES.len()];
        let text = read(&format!("{name}.yaml"));
        let mut document: Value = serde_yaml_ng::from_str::<Value>(&text).unwrap();
        for _ in 0..=dice.below(3) {
            mutate(&mut document, &mut dice);
        }
        let text = document.to_string();
        let result = std::panic::catch_unwind(|| {
            let document = Document::parse("mutated.json", &text)?;
            generate(&document, &Config::default())
        });
        let result =
            result.unwrap_or_else(|_| panic!("seed {seed} of {name} causes a panic:\n{text}"));
        match result {
            Ok(_) => accepted += 1,
            Err(findings) => assert!(
                findings
                    .list
                    .iter()
                    .all(|finding| !finding.message.is_empty())
            ),
        }
    }
    assert!(accepted > 50, "{accepted}");
}

/// The generated manifest has the versions with which the runtime is tested here.
#[test]
fn versions_of_a_generated_crate_are_those_of_the_lock_file() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let lock = std::fs::read_to_string(root.join("../../Cargo.lock")).unwrap();
    let document = Document::parse("petstore.yaml", &read("petstore.yaml")).unwrap();
    let files = generate(&document, &Config::default()).unwrap();
    let manifest = files.text("Cargo.toml").unwrap();
    let dependencies = manifest.split("[dependencies]\n").nth(1).unwrap();
    let dependencies = dependencies.lines().take_while(|line| !line.is_empty());
    for line in dependencies {
        let (name, rest) = line.split_once(" = ").unwrap();
        let version = rest.split("\"=").nth(1).unwrap().split('"').next().unwrap();
        let locked = format!("name = \"{name}\"\nversion = \"{version}\"\n");
        assert!(lock.contains(&locked), "{name} {version}");
    }
    assert!(!manifest.contains("path =") && !manifest.contains("workspace = true"));
}
