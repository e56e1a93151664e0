//! Options that take one of a few values.

use std::ffi::OsStr;
use std::marker::PhantomData;
use std::str::FromStr;

use clap::builder::{PossibleValue, TypedValueParser};

/// Declares an enum of an option's values, which are parsed, displayed and written to configuration
/// files by name. Older spellings, given after `|`, are parsed too. An unknown value is refused with
/// the list of the known ones, a value under `refused` with its own reason.
macro_rules! choices {
    (
        $(#[$attribute:meta])*
        $vis:vis $name:ident {
            $($(#[$doc:meta])* $variant:ident = $text:literal $(| $alias:literal)*,)+
        }
        $(refused { $($old:literal => $why:literal,)+ })?
    ) => {
        $(#[$attribute])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        $vis enum $name { $($(#[$doc])* $variant,)+ }

        impl $name {
            /// All values, in the order in which they are listed to the user.
            $vis const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Returns the name of the value on the command line and in configuration files.
            $vis fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }

        impl $crate::options::Choice for $name {
            fn all() -> &'static [Self] {
                Self::ALL
            }

            fn name(self) -> &'static str {
                self.name()
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.name())
            }
        }

        impl std::str::FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                match text {
                    $($text $(| $alias)* => Ok(Self::$variant),)+
                    $($($old => Err($why.to_owned()),)+)?
                    _ => {
                        let names: Vec<&str> = Self::ALL.iter().map(|choice| choice.name()).collect();
                        Err(format!("must be one of {}", names.join(", ")))
                    }
                }
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.name())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                text.parse().map_err(|reason| {
                    serde::de::Error::custom(format!("`{text}` {reason}"))
                })
            }
        }
    };
}
pub(crate) use choices;

/// Enum that [`choices!`] declares.
pub(crate) trait Choice: Copy + FromStr<Err = String> + Send + Sync + 'static {
    /// Returns all values, in the order in which they are listed.
    fn all() -> &'static [Self];
    /// Returns the name of the value.
    fn name(self) -> &'static str;
}

/// Returns a parser for a [`choices!`] enum that also gives clap the values, for help and completion.
pub(crate) fn choice<T: Choice>() -> impl TypedValueParser<Value = T> {
    ChoiceParser(PhantomData)
}

struct ChoiceParser<T>(PhantomData<T>);

impl<T> Clone for ChoiceParser<T> {
    fn clone(&self) -> Self {
        Self(PhantomData)
    }
}

impl<T: Choice> TypedValueParser for ChoiceParser<T> {
    type Value = T;

    fn parse_ref(
        &self,
        command: &clap::Command,
        arg: Option<&clap::Arg>,
        value: &OsStr,
    ) -> Result<T, clap::Error> {
        (|text: &str| text.parse::<T>()).parse_ref(command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(T::all().iter().map(|choice| PossibleValue::new(choice.name()))))
    }
}
