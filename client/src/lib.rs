//! The Preheat loader.
