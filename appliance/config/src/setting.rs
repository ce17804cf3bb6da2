//! How one value is read from TOML, and what it takes, in words.

use std::path::PathBuf;

use cloister_domain::{ByteCount, Principal, TokenCount};
use core::net::SocketAddr;

/// A kind of value. `Range` narrows it where a key says so.
pub(crate) trait Setting: Sized {
    /// What a key adds to the kind: bounds for numbers, nothing for others.
    type Range;

    /// The value, if `value` is of this kind and within `range`.
    fn read(value: &toml::Value, range: &Self::Range) -> Option<Self>;

    /// What the key takes, to follow `must be`.
    fn wanted(range: &Self::Range) -> String;
}

/// Inclusive bounds of a number.
pub(crate) type Bounds = (u64, u64);

fn number(value: &toml::Value, (least, most): Bounds) -> Option<u64> {
    let number = u64::try_from(value.as_integer()?).ok()?;
    (least..=most).contains(&number).then_some(number)
}

fn number_wanted(unit: &str, (least, most): Bounds) -> String {
    if most == MOST {
        format!("a whole number{unit}, {least} or more")
    } else {
        format!("a whole number{unit} from {least} to {most}")
    }
}

/// The largest number that TOML can write; as a bound it means no bound.
pub(crate) const MOST: u64 = i64::MAX as u64;

impl Setting for u32 {
    type Range = Bounds;

    fn read(value: &toml::Value, range: &Bounds) -> Option<Self> {
        number(value, *range).and_then(|number| number.try_into().ok())
    }

    fn wanted(range: &Bounds) -> String {
        number_wanted("", *range)
    }
}

impl Setting for TokenCount {
    type Range = Bounds;

    fn read(value: &toml::Value, range: &Bounds) -> Option<Self> {
        u32::read(value, range).map(Self)
    }

    fn wanted(range: &Bounds) -> String {
        number_wanted(" of tokens", *range)
    }
}

impl Setting for ByteCount {
    type Range = Bounds;

    fn read(value: &toml::Value, range: &Bounds) -> Option<Self> {
        number(value, *range).map(Self)
    }

    fn wanted(range: &Bounds) -> String {
        number_wanted(" of bytes", *range)
    }
}

impl Setting for bool {
    type Range = ();

    fn read(value: &toml::Value, (): &()) -> Option<Self> {
        value.as_bool()
    }

    fn wanted((): &()) -> String {
        "true or false".to_owned()
    }
}

impl Setting for PathBuf {
    type Range = ();

    fn read(value: &toml::Value, (): &()) -> Option<Self> {
        let path = Self::from(value.as_str()?);
        path.is_absolute().then_some(path)
    }

    fn wanted((): &()) -> String {
        "an absolute path".to_owned()
    }
}

/// An optional path; the empty text is none.
impl Setting for Option<PathBuf> {
    type Range = ();

    fn read(value: &toml::Value, (): &()) -> Option<Self> {
        if value.as_str()?.is_empty() { Some(None) } else { PathBuf::read(value, &()).map(Some) }
    }

    fn wanted((): &()) -> String {
        "an absolute path, or empty".to_owned()
    }
}

impl Setting for SocketAddr {
    type Range = ();

    fn read(value: &toml::Value, (): &()) -> Option<Self> {
        let address: Self = value.as_str()?.parse().ok()?;
        address.ip().is_loopback().then_some(address)
    }

    fn wanted((): &()) -> String {
        "a loopback address with a port, such as \"127.0.0.1:8000\"".to_owned()
    }
}

/// A user of the machine: by number, or by the name that the daemon looks up when it starts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum User {
    /// The user id.
    Id(u32),
    /// The user name.
    Name(String),
}

impl Setting for Vec<User> {
    type Range = ();

    fn read(value: &toml::Value, (): &()) -> Option<Self> {
        let user = |user: &toml::Value| match user.as_str() {
            Some("") => None,
            Some(name) => Some(User::Name(name.to_owned())),
            None => u32::try_from(user.as_integer()?).ok().map(User::Id),
        };
        value.as_array()?.iter().map(user).collect()
    }

    fn wanted((): &()) -> String {
        "a list of user names and ids, such as [\"cloister-updaterd\", 991]".to_owned()
    }
}

/// The person behind a user of the machine.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Operator {
    /// The user's name.
    pub user: String,
    /// The person, as the trust root names whom it knows.
    pub person: Principal,
}

impl Setting for Vec<Operator> {
    type Range = ();

    fn read(value: &toml::Value, (): &()) -> Option<Self> {
        let operator = |value: &toml::Value| {
            let (user, person) = value.as_str()?.split_once('=')?;
            let person = person.parse().ok()?;
            (!user.is_empty()).then(|| Operator { user: user.to_owned(), person })
        };
        value.as_array()?.iter().map(operator).collect()
    }

    fn wanted((): &()) -> String {
        "a list of user names, each with its person, such as [\"op1=ada\", \"op2=bob\"]".to_owned()
    }
}

/// A list of words: names, expressions, or a command line.
impl Setting for Vec<String> {
    type Range = ();

    fn read(value: &toml::Value, (): &()) -> Option<Self> {
        let word = |value: &toml::Value| {
            let word = value.as_str()?;
            let printable = word.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
            ((1..=256).contains(&word.len()) && printable).then(|| word.to_owned())
        };
        let words = value.as_array()?;
        (words.len() <= 256).then(|| words.iter().map(word).collect()).flatten()
    }

    fn wanted((): &()) -> String {
        "a list of texts of 1 to 256 printable characters".to_owned()
    }
}

/// The first line of a checkpoint (C2SP tlog-checkpoint): not empty, no space, no plus sign.
impl Setting for String {
    type Range = ();

    fn read(value: &toml::Value, (): &()) -> Option<Self> {
        let origin = value.as_str()?;
        let plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'/' | b'-' | b'_');
        ((1..=128).contains(&origin.len()) && origin.bytes().all(plain)).then(|| origin.to_owned())
    }

    fn wanted((): &()) -> String {
        "1 to 128 characters of a-z, A-Z, 0-9, '.', '/', '-' and '_'".to_owned()
    }
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident, $wanted:literal: $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)+) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)+
        }

        impl Setting for $name {
            type Range = ();

            fn read(value: &toml::Value, (): &()) -> Option<Self> {
                match value.as_str()? {
                    $($word => Some(Self::$variant),)+
                    _ => None,
                }
            }

            fn wanted((): &()) -> String {
                $wanted.to_owned()
            }
        }
    };
}

words! {
    /// Where the engine's products run.
    Device, "\"auto\", \"cpu\" or \"cuda\"":
    /// A CUDA device if there is one, else the CPU.
    Auto = "auto",
    /// The CPU, whatever else is there.
    Cpu = "cpu",
    /// The first CUDA device.
    Cuda = "cuda",
}

words! {
    /// The least severe events that are logged.
    Level, "\"error\", \"warn\", \"info\" or \"debug\"":
    /// Somebody must act.
    Error = "error",
    /// Degraded, and what was done instead.
    Warn = "warn",
    /// State changed.
    Info = "info",
    /// For developers; content is withheld at this level too.
    Debug = "debug",
}
