#![doc = include_str!("../README.md")]

pub mod demo;
pub mod encode;
pub mod photos;
pub mod replica;
pub mod report;
pub mod sheet;
