//! What tests return.

/// A test's result, or that of its helpers: any error fails the test.
pub type TestResult<T = ()> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;
