//! Asks a program of this container how it is, since the image has no other program that could:
//!
//!     healthcheck 127.0.0.1:4000/ready
//!
//! Ends well when the answer is 200.

use std::error::Error;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::ExitCode;
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(3);

fn main() -> ExitCode {
    let target = std::env::args().nth(1).unwrap_or_default();
    match is_well(&target) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) | Err(_) => ExitCode::FAILURE,
    }
}

fn is_well(target: &str) -> Result<bool, Box<dyn Error>> {
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
