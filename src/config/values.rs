//! Types of single values: durations with units, switches, and a wrapper that defers parse errors.

use std::convert::Infallible;
use std::str::FromStr;
use std::time::Duration;

use super::LogFormat;

/// Value as parsed, or a note that it was invalid, so that all errors can be reported together. The invalid text is not kept.
#[derive(Debug, Clone)]
pub struct Parsed<T>(Option<T>);

impl<T> Parsed<T> {
    /// The value; `None` if it was invalid.
    pub fn value(self) -> Option<T> {
        self.0
    }
}

impl<T: FromStr> FromStr for Parsed<T> {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.trim().parse().ok()))
    }
}

/// Duration with a unit: `250ms`, `5s`, `15m`, `1h 30m`, `7d`. `0` needs no unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HumanDuration(pub Duration);

impl FromStr for HumanDuration {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        if text == "0" {
            return Ok(Self(Duration::ZERO));
        }
        humantime::parse_duration(text).map(Self).map_err(|_| ())
    }
}

/// `on` or `off`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OnOff(pub bool);

impl FromStr for OnOff {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "on" | "true" | "yes" | "1" => Ok(Self(true)),
            "off" | "false" | "no" | "0" => Ok(Self(false)),
            _ => Err(()),
        }
    }
}

impl FromStr for LogFormat {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "json" => Ok(Self::Json),
            "text" => Ok(Self::Text),
            _ => Err(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_carry_units() {
        assert_eq!(
            "250ms".parse(),
            Ok(HumanDuration(Duration::from_millis(250)))
        );
        assert_eq!("1h 30m".parse(), Ok(HumanDuration(Duration::from_mins(90))));
        assert_eq!("0".parse(), Ok(HumanDuration(Duration::ZERO)));
        assert_eq!("50".parse::<HumanDuration>(), Err(()));
        assert_eq!("-1s".parse::<HumanDuration>(), Err(()));
    }
}
