//! bcrypt, several computations in step on one core.
//!
//! [`Lanes`] holds up to [`MAX_LANES`] [`Computation`]s and advances all of them by one iteration with each call of
//! [`Lanes::iterate`]. A computation of cost `c` takes `2^c` iterations. Between two iterations the caller may start other
//! computations, cancel some, or yield its core.
//!
//! The algorithm is that of Provos and Mazières, "A Future-Adaptable Password Scheme" (USENIX 1999), in the variant of OpenBSD
//! 5.5 and later whose hash strings begin with `$2b$`.
//!
//! ```
//! use bcrypt_lanes::{Computation, Lanes};
//!
//! let mut lanes = Lanes::new(1);
//! let computation = Computation::with_cost(b"correct horse", [7; 16], 4);
//! assert!(lanes.start(&computation, "alice").is_ok());
//! let mut digest = None;
//! while lanes.busy() > 0 {
//!     lanes.iterate(|_user, computed| digest = Some(computed));
//! }
//! assert_eq!(digest, Some(bcrypt::bcrypt(4, [7; 16], b"correct horse\0")));
//! ```

mod blowfish;
mod blowfish_tables;
mod lanes;

pub use lanes::{Computation, DEFAULT_LANES, Digest, Lanes, MAX_LANES};
