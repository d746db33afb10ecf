//! Collects all errors before any is reported. No error repeats a value.

use std::time::Duration;

use super::ConfigErrors;
use super::secrets::Secret;
use super::values::{HumanDuration, Parsed};

/// A secret is set but cannot be read; the collector has the error already.
pub(super) struct Unreadable;

/// Collects the errors, so that the remaining settings are still checked.
#[derive(Default)]
pub(super) struct ErrorCollector(Vec<String>);

impl ErrorCollector {
    pub(super) fn add(&mut self, setting: &str, what: &str) {
        self.0.push(format!("{setting}: {what}"));
    }

    pub(super) fn finish<T>(self, value: T) -> Result<T, ConfigErrors> {
        if self.0.is_empty() {
            Ok(value)
        } else {
            Err(ConfigErrors(self.0))
        }
    }

    pub(super) fn require<T>(&mut self, setting: &str, form: &str, given: Parsed<T>) -> Option<T> {
        let value = given.value();
        if value.is_none() {
            self.add(setting, &format!("must be {form}"));
        }
        value
    }

    pub(super) fn number_within<T: std::str::FromStr + PartialOrd + std::fmt::Display + Copy>(
        &mut self,
        setting: &str,
        given: Parsed<T>,
        least: T,
        most: T,
    ) -> T {
        match given.value() {
            Some(value) if value >= least && value <= most => value,
            _ => {
                self.add(setting, &format!("must be a number from {least} to {most}"));
                least
            }
        }
    }

    pub(super) fn duration_within(
        &mut self,
        setting: &str,
        given: Parsed<HumanDuration>,
        least: Duration,
        most: Duration,
    ) -> Duration {
        match given.value() {
            Some(HumanDuration(value)) if value >= least && value <= most => value,
            _ => {
                let (least, most) = (
                    humantime::format_duration(least),
                    humantime::format_duration(most),
                );
                self.add(
                    setting,
                    &format!(
                        "must be a time with its unit, like 50ms or 15m, from {least} to {most}"
                    ),
                );
                Duration::ZERO
            }
        }
    }

    pub(super) fn text(&mut self, setting: &str, given: Parsed<String>) -> String {
        let text = given.value().unwrap_or_default();
        if text.is_empty() || text.len() > 256 {
            self.add(setting, "must be a text of 1 to 256 bytes");
        }
        text
    }

    pub(super) fn secret(
        &mut self,
        found: Result<Option<Secret>, String>,
    ) -> Result<Option<Secret>, Unreadable> {
        found.map_err(|error| {
            self.0.push(error);
            Unreadable
        })
    }

    pub(super) fn require_off_loopback(
        &mut self,
        setting: &str,
        found: &Result<Option<Secret>, Unreadable>,
    ) {
        if matches!(found, Ok(None)) {
            self.add(
                setting,
                "must be set, because LISTEN is not a loopback address (or set its file variant)",
            );
        }
    }
}
