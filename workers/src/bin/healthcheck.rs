//! Requests a health path of a program in the same container, whose image has no other HTTP client:
//!
//!     healthcheck 127.0.0.1:4000/ready
//!
//! Exit code 0 when the status is 200, 1 otherwise.

use std::error::Error;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::ExitCode;
use std::time::Duration;

const HELP: &str = "\
Health check of a program in its container

Requests a path and exits with 0 when the status is 200, with 1 otherwise

Usage: healthcheck <ADDRESS>/<PATH>, for example 127.0.0.1:4000/ready
";

/// For connecting, and for each read and write.
const DEADLINE: Duration = Duration::from_secs(3);

fn main() -> ExitCode {
    let target = std::env::args().nth(1).unwrap_or_default();
    if target == "--help" {
        let written = std::io::stdout().write_all(HELP.as_bytes());
        return ExitCode::from(u8::from(written.is_err()));
    }
    match is_healthy(&target) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) | Err(_) => ExitCode::FAILURE,
    }
}

fn is_healthy(target: &str) -> Result<bool, Box<dyn Error>> {
    let (address, path) = target.split_once('/').ok_or("an address and a path")?;
    let mut stream = TcpStream::connect_timeout(&address.parse()?, DEADLINE)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_write_timeout(Some(DEADLINE))?;
    let request = format!("GET /{path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut status = [0; 13];
    stream.read_exact(&mut status)?;
    Ok(status.starts_with(b"HTTP/1.1 200 "))
}
