//! How single values are written: durations with units, switches, and a wrapper that keeps a bad value for the report.

use std::convert::Infallible;
use std::str::FromStr;
use std::time::Duration;

use super::LogFormat;

/// A value as given: parsed, or remembered as bad so that all mistakes can be reported together. The bad text itself is not
/// kept.
#[derive(Debug, Clone)]
pub struct Given<T>(Option<T>);

impl<T> Given<T> {
    /// The value, unless what was given could not be parsed.
    pub fn value(self) -> Option<T> {
        self.0
    }
}

impl<T: FromStr> FromStr for Given<T> {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.trim().parse().ok()))
    }
}

/// A duration with a unit: `250ms`, `5s`, `15m`, `1h 30m`, `7d`. A bare `0` needs none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span(pub Duration);

impl FromStr for Span {
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
pub struct Switch(pub bool);

impl FromStr for Switch {
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
        assert_eq!("250ms".parse(), Ok(Span(Duration::from_millis(250))));
        assert_eq!("1h 30m".parse(), Ok(Span(Duration::from_mins(90))));
        assert_eq!("0".parse(), Ok(Span(Duration::ZERO)));
        assert_eq!("50".parse::<Span>(), Err(()));
        assert_eq!("-1s".parse::<Span>(), Err(()));
    }
}
