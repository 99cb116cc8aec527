//! Oxbull.
