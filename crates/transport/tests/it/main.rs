//! The in-process pair against the rules of transports.

mod pair;
