//! A Preheat replica.
