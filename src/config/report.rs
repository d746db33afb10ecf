//! All mistakes are collected before any is reported, and none repeats a value.

use std::time::Duration;

use super::Mistakes;
use super::secrets::Secret;
use super::values::{Given, Span};

/// A secret is set but cannot be read; the report says so already.
pub(super) struct Unreadable;

/// Collects the mistakes: what is wrong is written down, and the rest is still looked at.
#[derive(Default)]
pub(super) struct Report(Vec<String>);

impl Report {
    pub(super) fn mistake(&mut self, setting: &str, what: &str) {
        self.0.push(format!("{setting}: {what}"));
    }

    pub(super) fn finish<T>(self, value: T) -> Result<T, Mistakes> {
        if self.0.is_empty() {
            Ok(value)
        } else {
            Err(Mistakes(self.0))
        }
    }

    pub(super) fn value<T>(&mut self, setting: &str, form: &str, given: Given<T>) -> Option<T> {
        let value = given.value();
        if value.is_none() {
            self.mistake(setting, &format!("must be {form}"));
        }
        value
    }

    pub(super) fn within<T: std::str::FromStr + PartialOrd + std::fmt::Display + Copy>(
        &mut self,
        setting: &str,
        given: Given<T>,
        least: T,
        most: T,
    ) -> T {
        match given.value() {
            Some(value) if value >= least && value <= most => value,
            _ => {
                self.mistake(setting, &format!("must be a number from {least} to {most}"));
                least
            }
        }
    }

    pub(super) fn span(
        &mut self,
        setting: &str,
        given: Given<Span>,
        least: Duration,
        most: Duration,
    ) -> Duration {
        match given.value() {
            Some(Span(value)) if value >= least && value <= most => value,
            _ => {
                let (least, most) = (
                    humantime::format_duration(least),
                    humantime::format_duration(most),
                );
                self.mistake(
                    setting,
                    &format!(
                        "must be a time with its unit, like 50ms or 15m, from {least} to {most}"
                    ),
                );
                Duration::ZERO
            }
        }
    }

    pub(super) fn text(&mut self, setting: &str, given: Given<String>) -> String {
        let text = given.value().unwrap_or_default();
        if text.is_empty() || text.len() > 256 {
            self.mistake(setting, "must be a text of 1 to 256 bytes");
        }
        text
    }

    pub(super) fn secret(
        &mut self,
        found: Result<Option<Secret>, String>,
    ) -> Result<Option<Secret>, Unreadable> {
        found.map_err(|mistake| {
            self.0.push(mistake);
            Unreadable
        })
    }

    pub(super) fn needs_off_loopback(
        &mut self,
        setting: &str,
        found: &Result<Option<Secret>, Unreadable>,
    ) {
        if matches!(found, Ok(None)) {
            self.mistake(
                setting,
                "must be set, because LISTEN is not a loopback address (or set its file variant)",
            );
        }
    }
}
