//! The secrets of webhooks: made, encrypted for the database, and used to sign messages.
//!
//! An encrypted secret contains a fingerprint of the key that encrypted it, so a wrong key is recognised. Keys and secrets
//! have no readable debug output.

use std::fmt;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use anyhow::{Context, anyhow, ensure};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use chrono::{DateTime, Utc};
use cohorts_store::ProjectId;
use cohorts_store::webhooks::StoredSecrets;
use rand::RngExt;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hmac;
use sha2::{Digest, Sha256};

/// The environment variable of the key.
pub const VARIABLE: &str = "COHORTS_SECRET_KEY";
/// The first byte of an encrypted secret.
const VERSION: u8 = 1;
const FINGERPRINT: usize = 8;
const KEY: usize = 32;
/// The beginning of a secret as text.
const PREFIX: &str = "whsec_";

/// A key that encrypts secrets.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SecretKey([u8; KEY]);

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(…)")
    }
}

impl SecretKey {
    /// Reads 32 bytes in base64 or in hexadecimal digits.
    ///
    /// # Errors
    ///
    /// Fails if the text has another form.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let text = text.trim();
        let bytes = hex::decode(text).ok();
        let bytes = bytes.or_else(|| BASE64_STANDARD.decode(text).ok());
        let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
        let remedy =
            "the secret key is not 32 bytes in base64; make one with `openssl rand -base64 32`";
        Ok(Self(bytes.context(remedy)?))
    }

    fn new() -> Self {
        Self(rand::rng().random())
    }

    fn cipher(&self) -> LessSafeKey {
        let key = UnboundKey::new(&CHACHA20_POLY1305, &self.0);
        LessSafeKey::new(key.expect("the cipher takes keys of 32 bytes"))
    }

    fn fingerprint(&self) -> [u8; FINGERPRINT] {
        let hash = Sha256::new()
            .chain_update(b"cohorts secret key")
            .chain_update(self.0)
            .finalize();
        std::array::from_fn(|nth| hash[nth])
    }

    /// Encrypts a secret of a project.
    fn seal(&self, project: ProjectId, secret: &WebhookSecret) -> anyhow::Result<Vec<u8>> {
        self.seal_text(&project.0.to_be_bytes(), &secret.0)
    }

    /// Decrypts a secret of a project.
    fn open(&self, project: ProjectId, sealed: &[u8]) -> anyhow::Result<WebhookSecret> {
        let text = self.open_text(&project.0.to_be_bytes(), sealed)?;
        let secret = text.try_into();
        Ok(WebhookSecret(secret.map_err(|_| damaged())?))
    }

    /// Encrypts a text of a place. It can be decrypted as that of the same place only.
    fn seal_text(&self, place: &[u8], text: &[u8]) -> anyhow::Result<Vec<u8>> {
        let nonce: [u8; NONCE_LEN] = rand::rng().random();
        let mut sealed = vec![VERSION];
        sealed.extend(self.fingerprint());
        sealed.extend(nonce);
        let mut text = text.to_vec();
        let nonce = Nonce::assume_unique_for_key(nonce);
        let sealing = self
            .cipher()
            .seal_in_place_append_tag(nonce, Aad::from(place), &mut text);
        sealing.map_err(|_| anyhow!("a secret cannot be encrypted"))?;
        sealed.extend(text);
        Ok(sealed)
    }

    /// Decrypts a text of a place.
    fn open_text(&self, place: &[u8], sealed: &[u8]) -> anyhow::Result<Vec<u8>> {
        let rest = sealed.strip_prefix(&[VERSION]).ok_or_else(damaged)?;
        let (fingerprint, rest) = rest.split_at_checked(FINGERPRINT).ok_or_else(damaged)?;
        ensure!(
            fingerprint == self.fingerprint(),
            "the secret was encrypted with another secret key; start the service with that key in {VARIABLE}, or replace \
             the secret with `rotate_secret/`"
        );
        let (nonce, text) = rest.split_at_checked(NONCE_LEN).ok_or_else(damaged)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| damaged())?;
        let mut text = text.to_vec();
        let opened = self
            .cipher()
            .open_in_place(nonce, Aad::from(place), &mut text);
        Ok(opened.map_err(|_| damaged())?.to_vec())
    }
}

fn damaged() -> anyhow::Error {
    anyhow!("an encrypted secret is damaged")
}

/// Where the key is.
#[derive(Clone, Debug)]
pub enum SecretKeySource {
    /// The environment has it.
    Key(SecretKey),
    /// A file has it. The first webhook creates the file if it does not exist.
    File(PathBuf),
    /// There is none.
    Missing,
}

impl SecretKeySource {
    /// The key, which is created if there is none in the file.
    fn create(&self) -> Result<SecretKey, SecretKeyError> {
        match self {
            Self::Key(key) => Ok(*key),
            Self::File(path) => match read_file(path)? {
                Some(key) => Ok(key),
                None => Ok(create_file(path)?),
            },
            Self::Missing => Err(SecretKeyError::Missing),
        }
    }

    /// The key; fails if there is none.
    fn existing(&self) -> Result<SecretKey, SecretKeyError> {
        match self {
            Self::File(path) => {
                let missing = || format!("there is no secret key in {}", path.display());
                Ok(read_file(path)?.with_context(missing)?)
            }
            other => other.create(),
        }
    }
}

fn read_file(path: &Path) -> anyhow::Result<Option<SecretKey>> {
    match fs::read_to_string(path) {
        Ok(text) => {
            let key = SecretKey::parse(&text);
            key.map(Some).with_context(|| path.display().to_string())
        }
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(cause).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// Writes a new key that only the owner of the file can read. If another process writes one at the same time, that one counts.
fn create_file(path: &Path) -> anyhow::Result<SecretKey> {
    let unwritable = || format!("cannot write {}", path.display());
    let directory = path.parent().context("the file has no directory")?;
    fs::create_dir_all(directory).with_context(unwritable)?;
    let mut file = tempfile::NamedTempFile::new_in(directory).with_context(unwritable)?;
    let mode = fs::Permissions::from_mode(0o600);
    file.as_file()
        .set_permissions(mode)
        .with_context(unwritable)?;
    writeln!(file, "{}", BASE64_STANDARD.encode(SecretKey::new().0)).with_context(unwritable)?;
    file.as_file().sync_all().with_context(unwritable)?;
    let written = file.persist_noclobber(path);
    if let Err(cause) = written
        && cause.error.kind() != std::io::ErrorKind::AlreadyExists
    {
        return Err(cause.error).with_context(unwritable);
    }
    read_file(path)?.with_context(unwritable)
}

/// The secret of a webhook.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookSecret([u8; KEY]);

impl fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookSecret(…)")
    }
}

impl WebhookSecret {
    /// The secret as text, for its owner.
    pub fn text(&self) -> String {
        format!("{PREFIX}{}", BASE64_STANDARD.encode(self.0))
    }

    /// The signature of a message.
    fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, &self.0));
        context.update(format!("{id}.{timestamp}.").as_bytes());
        context.update(body);
        format!("v1,{}", BASE64_STANDARD.encode(context.sign()))
    }
}

/// The signatures of a message by all secrets, as in the header `webhook-signature`.
pub fn signatures(secrets: &[WebhookSecret], id: &str, timestamp: i64, body: &[u8]) -> String {
    let signatures = secrets
        .iter()
        .map(|secret| secret.sign(id, timestamp, body));
    signatures.collect::<Vec<_>>().join(" ")
}

/// A new secret, and its encrypted form.
#[derive(Debug)]
pub struct NewSecret {
    pub secret: WebhookSecret,
    pub sealed: Vec<u8>,
}

/// Why no secret can be made.
#[derive(Debug, thiserror::Error)]
pub enum SecretKeyError {
    /// There is no key.
    #[error(
        "The service has no secret key for webhooks. Its operator sets COHORTS_SECRET_KEY to the output of \
         `openssl rand -base64 32`."
    )]
    Missing,
    /// Another process has another key.
    #[error(
        "The secret key of this process is not the one that encrypted the secrets of existing webhooks. The operator \
         of the service sets COHORTS_SECRET_KEY to the same key in all processes."
    )]
    OtherKey,
    /// The key cannot be read or used.
    #[error(transparent)]
    Unusable(#[from] anyhow::Error),
}

/// Encrypts and decrypts secrets. Clones share the key, which is read once.
#[derive(Clone, Debug)]
pub struct Secrets {
    source: SecretKeySource,
    key: Arc<OnceLock<SecretKey>>,
}

impl Secrets {
    pub fn new(source: SecretKeySource) -> Self {
        Self {
            source,
            key: Arc::default(),
        }
    }

    fn key(
        &self,
        read: impl FnOnce(&SecretKeySource) -> Result<SecretKey, SecretKeyError>,
    ) -> Result<SecretKey, SecretKeyError> {
        match self.key.get() {
            Some(key) => Ok(*key),
            None => {
                let key = read(&self.source)?;
                Ok(*self.key.get_or_init(|| key))
            }
        }
    }

    /// A new secret of a project, and its encrypted form. `newest` is the newest encrypted secret of all projects.
    ///
    /// # Errors
    ///
    /// Fails if there is no key, it cannot be read, or `newest` was encrypted with another one.
    pub fn create(
        &self,
        project: ProjectId,
        newest: Option<&[u8]>,
    ) -> Result<NewSecret, SecretKeyError> {
        let key = self.key(SecretKeySource::create)?;
        if newest.is_some_and(|newest| newest.get(1..=FINGERPRINT) != Some(&key.fingerprint())) {
            return Err(SecretKeyError::OtherKey);
        }
        let secret = WebhookSecret(rand::rng().random());
        let sealed = key.seal(project, &secret)?;
        Ok(NewSecret { secret, sealed })
    }

    /// Encrypts a text that contains a secret, for a place.
    ///
    /// # Errors
    ///
    /// Fails if there is no key.
    pub fn seal_text(&self, place: &[u8], text: &[u8]) -> anyhow::Result<Vec<u8>> {
        self.key(SecretKeySource::existing)?.seal_text(place, text)
    }

    /// Decrypts the text of a place.
    ///
    /// # Errors
    ///
    /// Fails if there is no key, or if it is not the one that encrypted the text of this place.
    pub fn open_text(&self, place: &[u8], sealed: &[u8]) -> anyhow::Result<Vec<u8>> {
        self.key(SecretKeySource::existing)?
            .open_text(place, sealed)
    }

    /// The secrets that sign at `now`: the secret, and the one before it for a day after a rotation.
    ///
    /// # Errors
    ///
    /// Fails if there is no key, or if it is not the one that encrypted the secret.
    pub fn open(
        &self,
        project: ProjectId,
        stored: &StoredSecrets,
        now: DateTime<Utc>,
    ) -> anyhow::Result<Vec<WebhookSecret>> {
        let key = self.key(SecretKeySource::existing)?;
        let mut secrets = vec![key.open(project, &stored.secret)?];
        if let Some(old) = &stored.old_secret
            && stored.old_secret_until.is_some_and(|until| now < until)
        {
            // A rotation may have replaced a secret that cannot be read.
            secrets.extend(key.open(project, old).ok());
        }
        Ok(secrets)
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    const PROJECT: ProjectId = ProjectId(3);

    fn stored(secret: Vec<u8>) -> StoredSecrets {
        StoredSecrets {
            secret,
            old_secret: None,
            old_secret_until: None,
        }
    }

    fn secrets(byte: u8) -> Secrets {
        Secrets::new(SecretKeySource::Key(SecretKey([byte; KEY])))
    }

    fn create(by: &Secrets) -> (WebhookSecret, Vec<u8>) {
        let new = by.create(PROJECT, None).unwrap();
        (new.secret, new.sealed)
    }

    #[test]
    fn a_secret_is_decrypted_by_its_key_for_its_project_only() {
        let (secret, sealed) = create(&secrets(1));
        assert!(!sealed.windows(8).any(|bytes| secret.0.starts_with(bytes)));
        let open = |by: &Secrets, project, sealed: &[u8]| {
            by.open(project, &stored(sealed.to_vec()), Utc::now())
        };
        assert_eq!(
            open(&secrets(1), PROJECT, &sealed).unwrap(),
            std::slice::from_ref(&secret)
        );
        let wrong_key = open(&secrets(2), PROJECT, &sealed).unwrap_err();
        assert!(wrong_key.to_string().contains(VARIABLE), "{wrong_key}");
        assert!(open(&secrets(1), ProjectId(4), &sealed).is_err());
        for nth in 0..sealed.len() {
            let mut damaged = sealed.clone();
            damaged[nth] ^= 1;
            assert!(open(&secrets(1), PROJECT, &damaged).is_err(), "{nth}");
            assert!(open(&secrets(1), PROJECT, &sealed[..nth]).is_err(), "{nth}");
        }
        // Two secrets differ, and so do two encryptions.
        assert_ne!(create(&secrets(1)).1, sealed);
        assert!(secrets(1).create(PROJECT, Some(&sealed)).is_ok());
        let other = secrets(2).create(PROJECT, Some(&sealed)).unwrap_err();
        assert!(matches!(other, SecretKeyError::OtherKey), "{other}");
        assert!(!format!("{secret:?} {:?}", secrets(1)).contains("[1"));
    }

    #[test]
    fn the_old_secret_signs_for_a_time() {
        let by = secrets(1);
        let ((old, old_sealed), (new, sealed)) = (create(&by), create(&by));
        let now = Utc::now();
        let stored = StoredSecrets {
            secret: sealed,
            old_secret: Some(old_sealed),
            old_secret_until: Some(now + TimeDelta::hours(24)),
        };
        let at = |hours| {
            by.open(PROJECT, &stored, now + TimeDelta::hours(hours))
                .unwrap()
        };
        assert_eq!(at(23), [new.clone(), old]);
        assert_eq!(at(24), [new]);
        assert_eq!(signatures(&at(23), "a", 1, b"b").split(' ').count(), 2);
    }

    /// The example of the specification Standard Webhooks.
    #[test]
    fn a_signature_is_that_of_the_specification() {
        let bytes = BASE64_STANDARD
            .decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
            .unwrap();
        let key = hmac::Key::new(hmac::HMAC_SHA256, &bytes);
        let text = r#"msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330.{"test": 2432232314}"#;
        let expected = BASE64_STANDARD.encode(hmac::sign(&key, text.as_bytes()));
        assert_eq!(expected, "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        let secret = WebhookSecret([7; KEY]);
        let key = hmac::Key::new(hmac::HMAC_SHA256, &[7; KEY]);
        let expected = BASE64_STANDARD.encode(hmac::sign(&key, b"msg_1.12.{}"));
        assert_eq!(secret.sign("msg_1", 12, b"{}"), format!("v1,{expected}"));
        assert!(secret.text().starts_with("whsec_"));
    }

    #[test]
    fn a_key_is_32_bytes_in_base64_or_hexadecimal() {
        let key = SecretKey([9; KEY]);
        for text in [
            BASE64_STANDARD.encode([9; KEY]),
            hex::encode([9; KEY]) + "\n",
        ] {
            assert_eq!(SecretKey::parse(&text).unwrap(), key);
        }
        for text in ["", "short", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"] {
            let error = SecretKey::parse(text).unwrap_err().to_string();
            assert!(error.contains("openssl rand -base64 32"), "{error}");
        }
    }

    #[test]
    fn the_file_is_created_once_and_private() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("data/secret.key");
        let source = SecretKeySource::File(path.clone());
        assert!(source.existing().is_err() && !path.exists());
        let key = source.create().unwrap();
        assert_eq!(source.create().unwrap(), key);
        assert_eq!(source.existing().unwrap(), key);
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(create_file(&path).unwrap(), key);
        fs::write(&path, "x").unwrap();
        assert!(source.create().is_err());
        assert!(SecretKeySource::Missing.create().is_err());
    }
}
