//! What a person writes after `--key`: where the key is.

use std::{fmt, path::PathBuf, str::FromStr};

use crate::SignerError;

/// Where a key is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spec {
    /// `PATH` or `file:PATH`: a key file, plain or under a passphrase.
    File(PathBuf),
    /// `credential:NAME`: a key file that systemd laid into `$CREDENTIALS_DIRECTORY`.
    Credential(String),
    /// `tpm:PATH`: a key file that this machine's TPM sealed; `tpm:PATH?device=DEVICE` names the TPM.
    Tpm {
        /// The sealed file.
        path: PathBuf,
        /// The TPM, as `systemd-creds --tpm2-device` takes it.
        device: Option<String>,
    },
    /// `pkcs11:…`: an Ed25519 key on a token (RFC 7512).
    Token(TokenKey),
}

/// A key on a token, as a PKCS #11 URI describes it. What it leaves out matches anything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenKey {
    /// `module-path`: the token's driver, a shared library.
    pub module: PathBuf,
    /// `token`: the token's label.
    pub token: Option<String>,
    /// `serial`: the token's serial number.
    pub serial: Option<String>,
    /// `object`: the key's label.
    pub object: Option<String>,
    /// `id`: the key's identifier.
    pub id: Option<Vec<u8>>,
    /// `x-person`: who holds the key, where its label does not say so.
    pub person: Option<String>,
}

impl FromStr for Spec {
    type Err = SignerError;

    fn from_str(text: &str) -> Result<Self, SignerError> {
        if let Some(uri) = text.strip_prefix("pkcs11:") {
            return TokenKey::parse(uri).map(Self::Token);
        }
        if let Some(name) = text.strip_prefix("credential:") {
            // A name is one component: systemd's own rule for credentials.
            let plain = !name.is_empty() && !name.starts_with('.') && !name.contains('/');
            return if plain {
                Ok(Self::Credential(name.to_owned()))
            } else {
                Err(SignerError::Spec)
            };
        }
        if let Some(rest) = text.strip_prefix("tpm:") {
            let (path, device) = match rest.split_once("?device=") {
                Some((path, device)) => (path, Some(device.to_owned())),
                None => (rest, None),
            };
            return Ok(Self::Tpm { path: nonempty(path)?, device });
        }
        nonempty(text.strip_prefix("file:").unwrap_or(text)).map(Self::File)
    }
}

fn nonempty(path: &str) -> Result<PathBuf, SignerError> {
    if path.is_empty() { Err(SignerError::Spec) } else { Ok(PathBuf::from(path)) }
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Credential(name) => write!(f, "credential:{name}"),
            Self::Tpm { path, .. } => write!(f, "tpm:{}", path.display()),
            Self::Token(key) => {
                let label = key.object.as_deref().or(key.token.as_deref()).unwrap_or("any key");
                write!(f, "the token's key {label}")
            }
        }
    }
}

impl TokenKey {
    /// Reads what follows `pkcs11:` (RFC 7512, section 2.3).
    fn parse(uri: &str) -> Result<Self, SignerError> {
        let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
        let mut key = Self::default();
        for attribute in path.split(';').filter(|part| !part.is_empty()) {
            let (name, value) = attribute.split_once('=').ok_or(SignerError::Uri)?;
            match name {
                "token" => set(&mut key.token, text(value)?)?,
                "serial" => set(&mut key.serial, text(value)?)?,
                "object" => set(&mut key.object, text(value)?)?,
                "id" => set(&mut key.id, unescaped(value)?)?,
                "type" if value == "private" => {}
                // An attribute that is not understood matches nothing (RFC 7512, section 2.4).
                _ => return Err(SignerError::Uri),
            }
        }
        let mut module = None;
        for attribute in query.split('&').filter(|part| !part.is_empty()) {
            let (name, value) = attribute.split_once('=').ok_or(SignerError::Uri)?;
            match name {
                "module-path" => set(&mut module, PathBuf::from(text(value)?))?,
                "x-person" => set(&mut key.person, text(value)?)?,
                "pin-value" | "pin-source" => return Err(SignerError::UriPin),
                _ => return Err(SignerError::Uri),
            }
        }
        key.module = module.ok_or(SignerError::UriModule)?;
        // The dynamic linker searches its folders for a bare name; only a full path says which file.
        if key.module.is_absolute() { Ok(key) } else { Err(SignerError::UriModule) }
    }
}

fn set<T>(slot: &mut Option<T>, value: T) -> Result<(), SignerError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(SignerError::Uri),
    }
}

fn text(value: &str) -> Result<String, SignerError> {
    String::from_utf8(unescaped(value)?).map_err(|_bytes| SignerError::Uri)
}

/// Resolves `%` and two hexadecimal digits.
fn unescaped(value: &str) -> Result<Vec<u8>, SignerError> {
    let mut bytes = Vec::new();
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16));
        let (Some(high), Some(low)) = (digit(), digit()) else { return Err(SignerError::Uri) };
        bytes.push(u8::try_from(high * 16 + low).expect("two digits fit a byte"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_is_read() {
        let file = Spec::File("keys/ada.key".into());
        assert_eq!("keys/ada.key".parse::<Spec>().expect("a path"), file);
        assert_eq!("file:keys/ada.key".parse::<Spec>().expect("a path"), file);
        let credential = "credential:ada".parse::<Spec>().expect("a name");
        assert_eq!(credential, Spec::Credential("ada".to_owned()));
        let tpm = "tpm:/k?device=swtpm:host=::1,port=1".parse::<Spec>().expect("a path");
        let device = Some("swtpm:host=::1,port=1".to_owned());
        assert_eq!(tpm, Spec::Tpm { path: "/k".into(), device });
        let uri = "pkcs11:token=Root%20keys;object=ada;id=%01%fF;type=private\
                   ?module-path=/usr/lib/m.so&x-person=ada";
        let expected = TokenKey {
            module: "/usr/lib/m.so".into(),
            token: Some("Root keys".to_owned()),
            serial: None,
            object: Some("ada".to_owned()),
            id: Some(vec![1, 255]),
            person: Some("ada".to_owned()),
        };
        assert_eq!(uri.parse::<Spec>().expect("a URI"), Spec::Token(expected));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let is = |text: &str, code: &str| {
            let error = text.parse::<Spec>().expect_err(text);
            assert_eq!(cloister_domain::Coded::code(&error), code, "{text}");
        };
        for text in ["", "file:", "tpm:", "credential:", "credential:../x", "credential:.x"] {
            is(text, "signer.spec");
        }
        is("pkcs11:object=a", "signer.uri.module");
        is("pkcs11:object=a?module-path=m.so", "signer.uri.module");
        is("pkcs11:object=a?module-path=/m.so&pin-value=1234", "signer.uri.pin");
        for text in [
            "pkcs11:object?module-path=/m.so",
            "pkcs11:object=%f?module-path=/m.so",
            "pkcs11:object=%zz?module-path=/m.so",
            "pkcs11:object=a;object=b?module-path=/m.so",
            "pkcs11:slot-id=1?module-path=/m.so",
            "pkcs11:type=cert?module-path=/m.so",
        ] {
            is(text, "signer.uri");
        }
    }
}
