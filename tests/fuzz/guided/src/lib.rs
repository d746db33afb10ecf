//! Fuzz targets for coverage-guided programs. `make fuzz` builds and runs them.

#[path = "../../targets.rs"]
pub mod targets;
