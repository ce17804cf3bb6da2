//! Files and conversations that travel over a connection, each as one byte with a descriptor (unix(7),
//! `SCM_RIGHTS`).

use std::{
    io::{IoSlice, IoSliceMut},
    os::{
        fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd, RawFd},
        unix::net::UnixStream,
    },
};

use nix::{
    cmsg_space,
    errno::Errno,
    sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr, recvmsg, sendmsg},
};

use crate::{Connection, FrameError, inherited::adopt_received};

impl Connection {
    /// Sends `file`; the other end gets a descriptor of its own.
    ///
    /// # Errors
    /// [`FrameError::Broken`] and [`FrameError::TimedOut`].
    pub fn pass(&self, file: BorrowedFd<'_>) -> Result<(), FrameError> {
        let descriptors = [file.as_raw_fd()];
        let rights = [ControlMessage::ScmRights(&descriptors)];
        let byte = [IoSlice::new(b"f")];
        let socket = self.stream().as_raw_fd();
        // A peer that is gone is an error here, not a signal.
        let flags = MsgFlags::MSG_NOSIGNAL;
        loop {
            match sendmsg::<UnixAddr>(socket, &byte, &rights, flags, None) {
                Ok(_one) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(FrameError::broken(errno.into())),
            }
        }
    }

    /// Takes the file that the other end sends next.
    ///
    /// # Errors
    /// [`FrameError::Descriptor`] if something else comes, [`FrameError::CutOff`] if nothing does.
    pub fn take(&self) -> Result<OwnedFd, FrameError> {
        let mut byte = [0];
        let mut slices = [IoSliceMut::new(&mut byte)];
        let mut space = cmsg_space!(RawFd);
        let socket = self.stream().as_raw_fd();
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let message = loop {
            match recvmsg::<UnixAddr>(socket, &mut slices, Some(&mut space), flags) {
                Err(Errno::EINTR) => {}
                other => break other.map_err(|errno| FrameError::broken(errno.into()))?,
            }
        };
        if message.bytes == 0 {
            return Err(FrameError::CutOff);
        }
        let mut received = Vec::new();
        for control in message.cmsgs().map_err(|_cut| FrameError::Descriptor)? {
            if let ControlMessageOwned::ScmRights(descriptors) = control {
                received.extend(descriptors.into_iter().map(adopt_received));
            }
        }
        // Exactly one; others are closed here.
        match <[OwnedFd; 1]>::try_from(received) {
            Ok([file]) => Ok(file),
            Err(_none_or_many) => Err(FrameError::Descriptor),
        }
    }

    /// Begins a conversation of its own with whoever takes it at the other end.
    ///
    /// # Errors
    /// As [`Connection::pass`].
    pub fn open_conversation(&self) -> Result<Self, FrameError> {
        let (here, there) = UnixStream::pair().map_err(FrameError::Broken)?;
        self.pass(there.as_fd())?;
        let conversation = Self::over(here).map_err(FrameError::Broken)?;
        Ok(self.stopping_with(conversation))
    }

    /// Takes the conversation that the other end begins next, or none if it is done.
    ///
    /// # Errors
    /// As [`Connection::take`]; [`FrameError::Broken`] if what comes is no socket of this kind.
    pub fn next_conversation(&self) -> Result<Option<Self>, FrameError> {
        match self.take() {
            Ok(socket) => {
                Self::over(UnixStream::from(socket)).map(Some).map_err(FrameError::Broken)
            }
            Err(FrameError::CutOff) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        io::{Read as _, Seek as _, Write as _},
    };

    use cloister_domain::Coded as _;

    use super::*;

    fn pair() -> (Connection, Connection) {
        let (one, other) = UnixStream::pair().expect("a pair");
        (Connection::over(one).expect("credentials"), Connection::over(other).expect("credentials"))
    }

    #[test]
    fn a_file_follows_a_message() {
        let (here, there) = pair();
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(b"weights").expect("written");
        here.write("first").expect("written");
        here.pass(file.as_fd()).expect("passed");
        here.write("last").expect("written");
        assert_eq!(there.expect::<String>().expect("read"), "first");
        let mut taken = File::from(there.take().expect("a file"));
        assert_eq!(there.expect::<String>().expect("read"), "last");
        let mut content = String::new();
        taken.rewind().expect("rewound");
        taken.read_to_string(&mut content).expect("read");
        assert_eq!(content, "weights");
    }

    #[test]
    fn a_message_without_a_file_is_refused() {
        let (here, there) = pair();
        here.write("x").expect("written");
        assert_eq!(there.take().expect_err("no file").code(), "socket.descriptor");
        drop(here);
        let (here, there) = pair();
        drop(here);
        assert_eq!(there.take().expect_err("nobody").code(), "socket.cut-off");
    }

    #[test]
    fn a_conversation_begins_within_another_and_goes_on_without_it() {
        let (here, there) = pair();
        let asker = here.open_conversation().expect("begun");
        let answerer = there.next_conversation().expect("taken").expect("there is one");
        drop(here);
        assert!(there.next_conversation().expect("done").is_none());
        asker.write("asked").expect("written");
        assert_eq!(answerer.expect::<String>().expect("read"), "asked");
        drop(asker);
        assert!(answerer.is_closed());
    }

    #[test]
    fn a_file_is_no_conversation() {
        let (here, there) = pair();
        here.pass(tempfile::tempfile().expect("a file").as_fd()).expect("passed");
        assert_eq!(there.next_conversation().expect_err("a file").code(), "socket.broken");
    }

    #[test]
    fn two_files_at_once_are_refused() {
        let (here, there) = pair();
        let file = tempfile::tempfile().expect("a file");
        let two = [file.as_raw_fd(), file.as_raw_fd()];
        let rights = [ControlMessage::ScmRights(&two)];
        let byte = [IoSlice::new(b"f")];
        let socket = here.stream().as_raw_fd();
        sendmsg::<UnixAddr>(socket, &byte, &rights, MsgFlags::empty(), None).expect("sent");
        assert_eq!(there.take().expect_err("two").code(), "socket.descriptor");
    }
}
