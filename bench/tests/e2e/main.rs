//! End-to-end tests: what no single crate can show.

mod arrows;
