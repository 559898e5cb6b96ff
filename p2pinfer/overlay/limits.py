"""Limits of what strangers may take of a peer: by link, by their network, and in all (protocols/wire.md, 7.1).

Keys cost nothing and addresses little, so only what is bounded in all is bounded. A burst is what may be had at once, a
rate so many more a second. Peers on the same machine count for what is bounded in all alone.
"""

from typing import Final

MAX_LINKS: Final = 1024  # each costs some 100 kB
DESCRIPTORS: Final = 512  # files and sockets of a process that links leave to everything else
NETWORK_LINKS: Final = 64  # of one network
NEW_LINK_S: Final = 2.0  # for a new link to ask for something, before it may have to give way
MAX_HANDSHAKES: Final = 128  # of those who connected and have not proven a key, or have not said Hello yet
NETWORK_HANDSHAKES: Final = 32  # of one network
HANDSHAKES_BURST: Final = 64  # of one network: each costs milliseconds of arithmetic
HANDSHAKES_RATE: Final = 8.0
MAX_NOISE: Final = 1_024  # bytes of a message of noise's handshake; a key and a signature take a fifth
DHT_CONNECTIONS: Final = 256  # that others opened to a DHT host; of one network as many as there are handshakes
DHT_STREAMS: Final = 64  # that are open on one connection to a DHT host
DHT_UNREAD_BYTES: Final = 262_144  # that came on such a connection and were not read
DHT_STREAM_S: Final = 30.0  # for what is asked on one stream of the DHT
DHT_ASK_BYTES: Final = 16_384  # of a message that asks; a provider with eight addresses takes one
DHT_ANSWER_BYTES: Final = 65_536  # of one that answers, with 20 providers and 20 peers
NETWORK_PROVIDERS: Final = 64  # records of who provides a key, from one network
ALL_PROVIDERS: Final = 4_096
MAX_ASKING: Final = 8  # streams of one connection that may be agreeing on a protocol at once
STRANGERS_BURST: Final = 0.5  # seconds of our processor for reading links of one network that nothing depends on
STRANGERS_RATE: Final = 0.05
ALL_STRANGERS_BURST: Final = 1.0
ALL_STRANGERS_RATE: Final = 0.1
PARTNERS_BURST: Final = 2.0  # and for links that a session or a call of ours depends on
PARTNERS_RATE: Final = 0.5
ALL_PARTNERS_BURST: Final = 4.0
ALL_PARTNERS_RATE: Final = 0.7
LINK_RATE: Final = 0.001  # that every link may cost beside: pings, and an offer now and then
MAX_REPLIES: Final = 65_536  # bytes that yamux owes a peer that does not read them
BACKLOG_BYTES: Final = 16 << 20  # that wait on a link; a peer that lets more pile up is too slow to be served
ALL_BACKLOG_BYTES: Final = 64 << 20  # on all links; beyond it the worst ends
FRAME_BYTES: Final = 64  # that a frame takes beside its own while it waits
MAX_BACKLOG: Final = 4_096  # messages of one session that wait for us; credit keeps honest peers far below
NETWORK_CALLS: Final = 64  # of one network that are answered at once
ALL_CALLS: Final = 256
MAX_FILE_PART: Final = 65_536  # bytes of a file in one answer, however fast the link
LEAST_FILE_PART: Final = 8_192  # bytes that an answer counts for at least: few cost as much as these to read
FILES_BURST: Final = 16 << 20  # bytes of files for one network
FILES_RATE: Final = 8_388_608.0
ALL_FILES_BURST: Final = 64 << 20
ALL_FILES_RATE: Final = 33_554_432.0
SESSION_SHARE: Final = 8  # bytes that each of them counts while sessions are open
FILE_READERS: Final = 4  # files that are read at once
ALL_EARLY: Final = 1024  # messages of all links that wait for their session
ALL_EARLY_BYTES: Final = 16 << 20
MAX_OPENING: Final = 512  # sessions that are being opened, which a Close may overtake
OPENING_S: Final = 15.0
KEY_OPENS_BURST: Final = 64  # of one peer, as many as it may run at once at most nodes
KEY_OPENS_RATE: Final = 16.0
OPENS_BURST: Final = 128  # of one network: each costs checks of signatures
OPENS_RATE: Final = 32.0
ALL_OPENS_BURST: Final = 256
ALL_OPENS_RATE: Final = 96.0
KEY_SETTLEMENTS: Final = 16  # of one peer at once: each reads the journal
NETWORK_SETTLEMENTS: Final = 64
ALL_SETTLEMENTS: Final = 256
DIALS_BURST: Final = 16  # connections that one network has us begin, by naming addresses
DIALS_RATE: Final = 4.0
ALL_DIALS_BURST: Final = 32  # and all networks together; a DHT host has as many of its own
ALL_DIALS_RATE: Final = 16.0
MAX_MET: Final = 2  # addresses of a peer's part of the DHT that are dialled
MAX_ASKED: Final = 16  # peers of links that one look-up asks
ASKS_BURST: Final = 64  # offers and contacts that one network asks for: each answer is looked up and written
ASKS_RATE: Final = 16.0
ALL_ASKS_BURST: Final = 256
ALL_ASKS_RATE: Final = 64.0
MAX_FOUND: Final = 20  # peers that one look-up in the DHT has us meet
RUMOUR_LINKS: Final = 3  # that are told at once of what is quite new
RUMOURS_BURST: Final = 16  # offers that one network has us pass on so
RUMOURS_RATE: Final = 0.05
ALL_RUMOURS_BURST: Final = 64
ALL_RUMOURS_RATE: Final = 0.1
MAX_SEEKERS: Final = 16  # peers for whom we look for a model elsewhere, and who are told what comes of it
SEEK_S: Final = 10.0  # for which they are told
SOUGHT_AGAIN_S: Final = 20.0  # before the DHT is asked for one model on the word of others again
SEEKS_BURST: Final = 4  # look-ups in the DHT that one network has us do
SEEKS_RATE: Final = 0.05
ALL_SEEKS_BURST: Final = 16
ALL_SEEKS_RATE: Final = 0.2
MAX_DEGREE: Final = 10  # links that a peer keeps for itself; of others those that nobody needs end
DEGREE_S: Final = 30.0  # for a new link to ask for something, before it may end for that
