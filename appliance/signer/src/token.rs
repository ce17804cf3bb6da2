//! Ed25519 keys on tokens and in hardware security modules (PKCS #11 3.0, mechanism CKM_EDDSA).
//!
//! The key never leaves the token. What comes back is verified like any signature before it is used,
//! so a faulty driver can refuse to sign and can do no more.

use std::error::Error;

use cloister_attest::{AnyKey, PublicKey, SignError, Signer};
use cloister_domain::Principal;
use cryptoki::{
    context::{CInitializeArgs, CInitializeFlags, Pkcs11},
    error::{Error as Fault, RvError},
    mechanism::{
        Mechanism,
        eddsa::{EddsaParams, EddsaSignatureScheme},
    },
    object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle},
    session::{Session, UserType},
    slot::Slot,
    types::AuthPin,
};

use crate::{Opened, Passphrases, SignerError, TokenKey};

/// A key on a token that is logged in.
struct TokenSigner {
    session: Session,
    private: ObjectHandle,
    public: PublicKey,
}

impl Signer for TokenSigner {
    fn public(&self) -> AnyKey {
        self.public.into()
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        let pure = Mechanism::Eddsa(EddsaParams::new(EddsaSignatureScheme::Pure));
        let signature = self.session.sign(&pure, self.private, message);
        signature.map_err(|fault| SignError::Holder(Box::new(fault)))
    }
}

/// A public key that fits the URI, where it was found.
struct Found {
    slot: Slot,
    session: Session,
    id: Vec<u8>,
    label: String,
    public: PublicKey,
}

/// Opens the one key that `wanted` describes.
pub(crate) fn open(
    wanted: &TokenKey,
    passphrases: &mut Passphrases,
) -> Result<Opened, SignerError> {
    let driver = driver(wanted)?;
    let mut found = Vec::new();
    for slot in driver.get_slots_with_token().map_err(fault)? {
        if is_wanted(&driver, slot, wanted)? {
            found.append(&mut keys(&driver, slot, wanted)?);
        }
    }
    let count = found.len();
    let key = found.pop().ok_or(SignerError::TokenAbsent)?;
    if count > 1 {
        return Err(SignerError::TokenSeveral { count });
    }
    let person = wanted.person.as_ref().unwrap_or(&key.label);
    let person: Principal = person.parse().map_err(|_name| SignerError::TokenPerson)?;
    log_in(&driver, &key, passphrases)?;
    let private = private(&key)?;
    let signer = TokenSigner { session: key.session, private, public: key.public };
    Ok(Opened { person, signer: Box::new(signer) })
}

fn driver(wanted: &TokenKey) -> Result<Pkcs11, SignerError> {
    let driver = Pkcs11::new(&wanted.module).map_err(fault)?;
    match driver.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        // Another key of this process is behind the same driver.
        Ok(()) | Err(Fault::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => Ok(driver),
        Err(error) => Err(fault(error)),
    }
}

fn is_wanted(driver: &Pkcs11, slot: Slot, wanted: &TokenKey) -> Result<bool, SignerError> {
    let info = driver.get_token_info(slot).map_err(fault)?;
    let fits = |wanted: &Option<String>, is: &str| wanted.as_deref().is_none_or(|text| text == is);
    Ok(info.token_initialized()
        && fits(&wanted.token, info.label())
        && fits(&wanted.serial, info.serial_number()))
}

fn keys(driver: &Pkcs11, slot: Slot, wanted: &TokenKey) -> Result<Vec<Found>, SignerError> {
    let session = driver.open_ro_session(slot).map_err(fault)?;
    let mut template =
        vec![Attribute::Class(ObjectClass::PUBLIC_KEY), Attribute::KeyType(KeyType::EC_EDWARDS)];
    template.extend(wanted.object.as_ref().map(|text| Attribute::Label(text.clone().into_bytes())));
    template.extend(wanted.id.as_ref().map(|id| Attribute::Id(id.clone())));
    let mut found = Vec::new();
    for object in session.find_objects(&template).map_err(fault)? {
        let asked = [AttributeType::Id, AttributeType::Label, AttributeType::EcPoint];
        let (mut id, mut label, mut point) = (Vec::new(), Vec::new(), Vec::new());
        for attribute in session.get_attributes(object, &asked).map_err(fault)? {
            match attribute {
                Attribute::Id(bytes) => id = bytes,
                Attribute::Label(bytes) => label = bytes,
                Attribute::EcPoint(bytes) => point = bytes,
                _ => {}
            }
        }
        let public = public(&point)?;
        let label = String::from_utf8(label).unwrap_or_default();
        let session = driver.open_ro_session(slot).map_err(fault)?;
        found.push(Found { slot, session, id, label, public });
    }
    Ok(found)
}

/// The point, inside a DER octet string as PKCS #11 has it, or bare as some drivers do.
fn public(point: &[u8]) -> Result<PublicKey, SignerError> {
    let bare = point.strip_prefix(&[0x04, 0x20]).filter(|rest| rest.len() == 32).unwrap_or(point);
    let bytes: &[u8; 32] = bare
        .try_into()
        .map_err(|_length| SignerError::TokenKey(cloister_attest::AttestError::KeyEncoding))?;
    PublicKey::parse(bytes).map_err(SignerError::TokenKey)
}

fn log_in(driver: &Pkcs11, key: &Found, passphrases: &mut Passphrases) -> Result<(), SignerError> {
    let info = driver.get_token_info(key.slot).map_err(fault)?;
    if !info.login_required() {
        return Ok(());
    }
    // A token with a keypad of its own asks there.
    let pin = if info.protected_authentication_path() {
        None
    } else {
        let typed = passphrases.ask(&format!("PIN of token {}", info.label()))?;
        let text = std::str::from_utf8(typed.expose()).map_err(|_content| SignerError::Pin)?;
        Some(AuthPin::new(text.into()))
    };
    match key.session.login(UserType::User, pin.as_ref()) {
        // The token was unlocked for another key of this process.
        Ok(()) | Err(Fault::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(()),
        Err(Fault::Pkcs11(
            RvError::PinIncorrect
            | RvError::PinInvalid
            | RvError::PinLenRange
            | RvError::PinExpired
            | RvError::PinLocked,
            _,
        )) => Err(SignerError::Pin),
        Err(error) => Err(fault(error)),
    }
}

fn private(key: &Found) -> Result<ObjectHandle, SignerError> {
    let template = [
        Attribute::Class(ObjectClass::PRIVATE_KEY),
        Attribute::KeyType(KeyType::EC_EDWARDS),
        Attribute::Id(key.id.clone()),
    ];
    let found = key.session.find_objects(&template).map_err(fault)?;
    match found.as_slice() {
        [one] => Ok(*one),
        [] => Err(SignerError::TokenAbsent),
        several => Err(SignerError::TokenSeveral { count: several.len() }),
    }
}

fn fault(error: Fault) -> SignerError {
    let cause: Box<dyn Error + Send + Sync> = Box::new(error);
    SignerError::Token(cause)
}
