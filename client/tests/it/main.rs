//! Black-box tests of the loader.
