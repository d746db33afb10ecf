//! The fuzz targets, for programs that are guided by what an input reaches. `make fuzz` builds and runs them.

#[path = "../../targets.rs"]
pub mod targets;
