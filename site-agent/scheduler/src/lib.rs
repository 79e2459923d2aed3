//! From a CIB to what is to be done: a pure function.

#![forbid(unsafe_code)]
