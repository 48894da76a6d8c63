//! Black-box tests of a replica.
