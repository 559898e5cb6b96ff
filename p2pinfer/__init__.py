"""Peer-to-peer LLM inference, paid by receipts that both sides sign.

    import p2pinfer

    swarm = p2pinfer.connect(bootstrap=["/ip4/127.0.0.1/tcp/4001/p2p/12D3Koo..."])
    for text in swarm.stream("What is a distributed hash table?", max_tokens=40):
        print(text, end="")

`connect` is for scripts, notebooks and threads, also as a block; `aconnect` for asyncio; `open_client` for Trio.
`help(p2pinfer.Options)` describes the options of a prompt, `help(p2pinfer.Setup)` those of a client.

A map of the package; imports point downwards, and siblings do not know each other:

    cli                        the command `p2pinfer`
    diagnosis                  what this machine can serve, and how fast
    node | client              the daemon | the library
    engine | overlay | disk    torch without network | network without torch | files and SQLite
    core | system              no I/O: what a second implementation writes again from protocols/ | how systems differ

Every folder and file:

    __main__.py                `python -m p2pinfer` is the command `p2pinfer`
    system.py                  the operating system, as far as one differs from another
    cli/                       the command `p2pinfer`: parses, asks the layer below, prints
        ask.py                 `ask`: one prompt, answered by the swarm
        backup.py              `backup`: a copy of the journal, checked
        bars.py                bars that show how far something has come
        bench.py               `bench`: how fast this machine is
        chat.py                `p2pinfer chat`
        config.py              `config`: the settings in force, as a file to begin with
        demo.py                `demo`: peers on this machine find each other, answer two prompts and are paid
        doctor.py              `doctor`: whether this machine can serve, and what would make it faster
        earnings.py            `earnings`: what this machine's node earned, and its statement for others
        earnings_report.py     rows for `earnings`, printed for people or for programs
        journal_bar.py         a bar while a journal that was not closed well is read through
        main.py                the command: its subcommands, and how failures are told
        model.py               `model`: import models into the store, list them, show one
        node.py                `node`: the daemon
        options.py             options that several commands share
        owed.py                `owed`: what this machine's clients signed for
        processes.py           nodes as processes of this machine, for the demo
        receipt.py             `receipt show`: one contract and its highest receipt, in full
        repeats.py             a log that strangers cannot fill
        request_options.py     options of a prompt, for the commands that ask the swarm
        screen.py              a terminal for tables and bars, as `terminal.py` is for lines
        settle.py              `owed settle`: meet the nodes that work was left unsigned for, and sign it
        statement.py           `statement verify`: what a statement proves, and what it does not
        swarm.py               `swarm`: who serves what, until when, at what price
        terminal.py            the only way to a terminal or a log: strangers' words arrive as plain text
        unsigned.py            work delivered to clients and not signed for
        words.py               amounts, times, keys and codes as people read them
    client/                    the library: prompts in, answers out, over any route of the swarm
        aio.py                 the client for asyncio programs
        answer.py              an answer, as its client gets it: pieces of text, and all of it at the end
        api.py                 the library's entry: `open_client`, `Client`
        arrivals.py            waiting for what is not there yet
        blame.py               proof that one stage alone made a route fail
        blocking.py            the client for scripts and notebooks: the same calls, blocking
        books.py               the contracts and receipts of one generation at its client
        choice.py              the choice of a route among candidates: price limit, risk, cadences
        contracts.py           from a route to signed contracts and the opens that carry them
        deadlines.py           deadlines of a generation under way
        experience_keeper.py   what a client learnt of nodes, kept for the next one
        farewells.py           Closes that are said again on a new link
        file_search.py         files of a model from peers that may be slow, silent or liars
        full_nodes.py          nodes that had no room for one request, and when each is asked again
        generations.py         the generations of one client: turns, tries, payment
        left_out.py            nodes that a request leaves out of its further tries
        manifests.py           manifests of models that nobody imported here
        models.py              the model that a request means, from the store or from peers
        offerers.py            the peers that offer a model, asked in turns for a file
        patience.py            a client's patience with the stages of an answer
        places.py              the places of one request among those who wait for room at nodes
        preparation.py         from a prompt to ids, and to what is asked of a route
        promised.py            the promises of a route's stages, held against the answer
        race.py                routes of one request that are under way beside each other
        request.py             a person's request, as the protocol has it
        resumption.py          the return of a client whose links broke in mid-answer
        route_finder.py        the cheapest route over what peers offer
        route_links.py         links to the stages of routes, dialled together and measured
        routes.py              from offers to candidates of a route
        run.py                 one generation under way, until it is paid
        scribe.py              a model's words: text to ids and ids to text
        scribe_process.py      the scribe's process: tokenizer and template at work
        settlement.py          receipts of generations that are over
        setup.py               what a user of the library may choose, and the world around a client
        signatures.py          what an account decided to sign, stored before it is sent
        template_trial.py      a trial of a chat template, in a process of its own
        thread.py              a client in a thread of its own, for programs that do not run Trio
        tries.py               trying routes until one answers
        waiting_room.py        a request that waits for room at nodes that are full
    core/                      no I/O, no clock, no randomness: values and decisions
    core/models/               models: description, text, chat
        architecture.py        what models are made of: architectures, switches, tensors of each file
        bf16.py                bfloat16, rounded to nearest
        chat.py                chat messages to text, by a model's template
        config_json.py         config.json: read, held against ranges, written
        control_names.py       names of control tokens inside chat messages
        detokenizer.py         ids in, text out, as they come
        manifest.py            the description of a model
        model_config.py        a model's numbers, as manifest and engines need them
        model_numbers.py       numbers of a model that its files do not bound, and their ranges
        origin.py              which parts of a rendered chat came from its messages
        safetensors.py         the header of a safetensors file
        spelling.py            a tokenizer's spelling of bytes
        template_variables.py  variables for a chat template, as `enable_thinking`
        text.py                text to ids and ids to text, by a model's tokenizer
        tokenizer.py           a tokenizer.json, read by the tokenizers library
    core/money/                money: what is owed and risked
        budget.py              credit: the unpaid work that a node risks
        client_account.py      the client's side of a route's contracts: which receipts it may sign
        counted_ids.py         ids as their client counts them, and the roots that follow
        ledger.py              earnings and debts, folded from complete receipts
        proposals.py           one stage's proposals at its client, signed and waiting
        small_contracts.py     contracts that are not worth the room that their records take
        stage_account.py       the node's side of one contract: proposals, and how far it works unpaid
    core/records/              signed records, and what follows from them alone
        canonical.py           the one form a signed record may have
        certificate.py         certificates and revocations: an owner's key speaks for a node's
        contract.py            contracts: the terms of one session, signed by both
        counting.py            work as a function of contract and committed positions
        delivered.py           a generation that is not paid up, as its client keeps it
        draw.py                the draw of the next id, as numbers
        offer.py               offers: what a node serves, at what price
        pricing.py             the cost of work: usage times prices
        receipt.py             receipts: cumulative totals that both sign
        records.py             what all signed records have in common
        renewal.py             the times to renew a certificate, and to tell its owner
        sampling.py            the canonical sampling record
        statement.py           statements: a file that proves what a node earned
        statement_check.py     the check of a statement, and its verdict
        terms.py               parts that offers and contracts share
        tree.py                boundary trees: RFC 6962 over salted rows
    core/room/                 a node's room: who finds it, who waits, who gives way
        excess.py              the room that one had beyond its share while others waited
        free_room.py           the room that is free, and who gives way
        holdings.py            the parts of a node's room that clients hold
        last_turns.py          the last turns of keys and networks at a node
        overdue.py             when the size of a client that asks for much counts no more
        queue.py               the places of those that wait
        room.py                the decision who finds room, and who gives it up
    core/routes/               routes: choice, costs, experience
        experience.py          a client's experience with nodes and their owners
        failures.py            nodes, and their owners, that failed a client lately
        measures.py            a client's measurements of nodes
        paths.py               the cheapest way through all layers
        price_limit.py         the most that one request may cost where nobody names a limit
        routing.py             the choice of a generation's stages
    core/sessions/             sessions: stages, generations, batches, pages
        ending.py              the end of a generation: one rule for tail and client
        generation.py          a generation at its client, as a state machine
        opening.py             an Open beside its contract, as a stage holds it
        pages.py               the owners of the KV cache's pages, and how far each session has come
        schedule.py            the next batch of the steps that wait
        stage.py               a session on a stage, as a state machine
        stage_terms.py         the terms of a session on a stage, and the part of each peer in it
        step.py                one forward pass of a session through a stage's layers
        suspension.py          how long a session waits for a client whose link broke
        tail_ids.py            the ids that a tail sampled in one session, and its words on them
    core/swarm/                the swarm: offers, addresses, placement
        acquaintances.py       peers that we met, to be found again
        address.py             addresses of peers, and which of them may be dialled on another's word
        allowance.py           rates of what strangers may have us do at a cost
        coverage.py            how well offers cover a model's layers
        digest.py              offers named and renewed in few bytes
        doubles.py             two processes with one key
        moving.py              the decision of a node to stay or to take other layers
        offer_table.py         the offers that a peer knows
        offers.py              an offer that a peer knows, by the clock of whoever heard it
        own_address.py         our own addresses, in the order in which others should try them
        placement.py           the layers that a node takes to begin with
        selection.py           which of very many offers are looked at for an answer
        skews.py               our clock, by peers' Hellos
        source.py              the network that a peer comes from
        told_addresses.py      a node's addresses, by the word of several
        turns.py               turns of those that wait, by network
    core/values/               small values that every other part speaks of
        alternation.py         several orders taken in turns
        codes.py               codes on the wire and in receipts
        errors.py              every error that p2pinfer raises on purpose
        fields.py              fields of messages and records: kinds and ranges
        keys.py                Ed25519 keys and signatures, and names
        notes.py               notes by key, each with its time
        shown.py               text of strangers, made safe to show
        units.py               ids, spans and money
    core/wire/                 messages and frames as bytes
        frames.py              frames: a length, then a body
        line_rate.py           what a machine's line carries, found out by trying
        message_codec.py       messages as bytes, and bytes as messages
        messages.py            messages of links and calls
        pace.py                the speed of a link, and the bytes that may be under way
        session_messages.py    messages of sessions
    diagnosis/                 what this machine can serve, and how fast
        engine_comparison.py   the engines beside each other and beside what memory allows, for `bench`
        examination.py         the examination of a machine, for `doctor`
        findings.py            its findings: a verdict each, and what to do
    disk/                      files and SQLite: keys, journal, store, what is kept
        address_book.py        the address book: peers that were met
        atomic.py              files that are there whole or not at all, whatever stops the machine
        backup.py              a copy of a journal that may be in use
        boots.py               the starts of a node, and how many offers each has made
        data_folder.py         a node's data folder: held, tried, left as it was
        demo.py                the demo model
        experience_file.py     what a data folder's clients learnt of nodes
        identity.py            the identity of a node: its key, and its owner's word for it
        import_trial.py        a trial of a model's texts, in a process of its own, before this one reads them
        journal.py             the journal: contracts and receipts, durable before they are sent
        journal_changes.py     changes of a journal: rows that come and go together
        journal_check.py       the proof that a journal is whole
        journal_file.py        the journal's file, and what is checked before it is trusted
        journal_reader.py      what was earned and paid, read from the journal
        journal_rows.py        rows of the journal as values
        journal_tables.py      the journal's tables
        journal_totals.py      the sums of receipts that are complete, kept with the receipts themselves
        key_files.py           keys of a data folder
        locks.py               locks that the kernel gives back when a process dies, on files that say who holds them
        memory_journal.py      journals in memory, for simulations
        places.py              where things are: folders, and files of a data folder
        plain.py               plain files alone: what stands under a name is looked at first
        ports.py               the ports that a node had, so that saved addresses stay good
        roll.py                the roll of a user's nodes on this machine
        served.py              the bytes of files that peers had of this node today
        shared_file.py         a file of JSON that processes share
        statement_export.py    a statement made from the journal
        store.py               models on disk, by id
        tally.py               a journal's number of commits and last state, beside it
        target.py              a file that a user names for us to write
        whereabouts.py         the addresses where clients of this machine meet a data folder's node
        wishes.py              what a person who imports a model wants otherwise
    disk/importing/            imports into the store: demo, GGUF, Hugging Face
        building.py            from a source's tensors to a model in the store
        drawing.py             how the maker wants ids drawn
        gguf_file.py           the GGUF format, version 2 and 3
        gguf_model.py          a model in GGUF files, as llama.cpp has it, in Hugging Face's names and order
        gguf_parts.py          a GGUF model in several files
        gguf_tokenizer.py      a tokenizer.json from the vocabulary in a GGUF file
        hub.py                 models on the Hugging Face hub, by its own client
        huggingface.py         a model in a Hugging Face folder
        naming.py              names of imported models
        safetensors_file.py    the safetensors format, as far as models here use it
        sources.py             sources of models
        tensors.py             tensors on their way into a store
    engine/                    torch and the native kernel, in a process of their own
        backend.py             the door between a shard and what computes it
        choice.py              the choice of the engine that computes a model here
        codecs.py              rows of hidden states as wire bytes, and back
        door.py                the parent's side of the engine's process
        files.py               the store's tensors as numpy maps them
        gpu.py                 a GPU's memory and its speed
        inbox.py               the worker's end of the door
        memory.py              an engine without weights, process or threads
        messages.py            the values that go through the engine's door, plain and as bytes
        process.py             the engine's worker as a process of its own, which gives its memory back at once when it
        sampler.py             from logits to an id
        shard.py               a loaded span that answers batches of steps
        worker.py              the engine's process
    engine/eager/              the engine in torch
        attention.py           attention over the paged KV cache
        buckets.py             the few shapes that batches of decode steps are brought to
        cache.py               the KV cache
        gpu_facts.py           the process that looks at a GPU
        graphs.py              CUDA graphs
        layers.py              one transformer layer of the Llama family
        linear.py              linear layers
        plan.py                the plan of a batch
        replay.py              decode steps that are recorded once for each bucket and then replayed
        rope.py                rotary positions
        span.py                a span computed by torch, operator by operator
        tape.py                a fake CUDA graph, on any device and without its speed
        weights.py             from the store's files to a span's weights, laid out for computing
    engine/native/             the int8 engine in C
        attention.h            attention over the paged KV cache, several query rows at a time
        bandwidth.c            the speed of memory, measured
        cache.h                how keys and values lie in a page of KV cache
        choosing.h             the id that a row of logits speaks for most
        codec.h                the wire codec q8o4
        codec.py               the kernel's codec
        cpu.c                  which instruction sets this machine has, asked of it
        cpu.h                  which instruction sets this machine has
        forward.h              a step through a span
        functions.h            exponential, silu and RMS norms over virtual lanes
        half.h                 IEEE 754 binary16 in plain C, rounded to nearest even
        isa_amx.c              AVX-512 with matrix tiles for batches
        isa_avx2.c             x86-64 since 2013
        isa_avx512.c           x86-64 with AVX-512 and its int8 dot products
        isa_neon.c             64-bit ARM with int8 dot products
        isa_portable.c         the reference
        keeping.h              keys and values put into the cache and read from it, in binary16 or in int8
        kernel.h               what `kernel.py` calls
        kernel.py              the C kernel from Python
        lanes.h                sixteen virtual lanes
        lanes_avx2.h           virtual lanes in two registers
        lanes_avx512.h         virtual lanes in one register
        lanes_neon.h           virtual lanes in four registers
        lanes_portable.h       virtual lanes in plain C
        library.py             the compiled kernel, if this installation has one
        memory.c               zeroed memory, taken and given back
        memory.h               zeroed memory straight from the system
        pack.c                 weights from bfloat16 to int8 blocks
        pack.h                 weights from bfloat16 to int8 blocks
        pool.c                 threads that compute a step together
        pool.h                 threads that compute a step together, and sleep when there is none
        product.h              matrix products of int8 weights with int8 activations
        quantise.h             activations in int8, each 32 of a row with a scale of their own
        reading.h              reading memory and nothing else
        rotary.py              cosines and sines of every position, the same bits on every machine
        scratch.h              bounds that scratch memory is laid out for, the same for every instruction set
        serve.c                plain requests answered without Python
        serve.h                requests of the engine's door, answered without Python where they ask for nothing unusual
        serving.py             sessions and requests that the kernel serves without Python
        shape.h                a loaded span: sizes, matrices, pages, rows of a step
        shapes.py              the models that the native kernel can compute
        single.h               one row through several panels at once
        span.c                 a span in memory: opened, filled, stepped, closed
        span.py                a span computed by the native kernel
        target.h               code for instruction sets that the machine may not have
        tiles.h                matrix products of 16 rows at a time in AMX tiles
        weights.py             from the store's tensors to the kernel's int8 matrices, a few rows at a time
        wire.h                 how long a row is in the codec q8o4
    node/                      the daemon: serves a shard, and is paid
        addresses.py           addresses in an owner's settings, looked at before anything is opened
        batcher.py             keeps the engine busy
        certification.py       keeps the node certified while it runs
        daemon.py              identity, journal, network and shard, put together
        defaults.py            the choices that the owner left to the machine
        doubles.py             another process with this node's key, noticed
        exposure.py            the risk of a node with its clients
        files.py               files of models for peers that lack them
        holders.py             the peers that hold our layers and are there
        limits.py              cores and memory that are ours
        lodging.py             who holds room, who waits, and telling them
        offer_renewal.py       keeps the node's offer fresh
        outlook.py             a node's view of its own reach
        own_offers.py          the node's own offers
        placement.py           the layers that this node holds, and when it takes others
        ration.py              the bytes of files that peers may have in a day
        reception.py           Opens: taken or refused
        serving.py             serving a model: layers chosen, loaded, served, left
        session.py             one open session, and what comes to it
        session_books.py       what a session proposes, and what is signed
        session_client.py      the client of a session, and its return
        session_deadlines.py   how long a session goes on while nothing moves
        session_end.py         the end of a session, told to all
        session_rows.py        rows of a prompt on their way to the next stage
        session_steps.py       what the engine computes of a session
        settings.py            everything an owner can set, from one TOML file
        settlement.py          receipts of sessions that are over
        shard.py               the shard that a node loads
        speed_test.py          the speed of a loaded shard
        stint.py               one span while the node serves it
        whereabouts.py         tells peers of this machine where the node is
        whole.py               the whole model in one engine, without a swarm
    overlay/                   the network: links, offers, calls, files; no torch
        admission.py           peers that open a pipe to us, and become links or hear why not
        answers.py             answers to others' calls: so many at once, so many a second
        attempts.py            links in the making: callers who want the same peer share one
        backlog.py             bytes that wait on links
        book.py                the address book while we run
        calls.py               calls that we make: a question and its one answer
        commons.py             parts that all links of one network share
        contained.py           the one place that catches any failure
        crowd.py               strangers who are half-way in: so many of a network, so many in all
        degree.py              the links that a node keeps, and those that end
        dht_parts.py           parts of the DHT learn of each other over links
        dial.py                dialling a peer at several addresses
        dialled.py             a node that nobody has dialled asks for it
        directory.py           who serves what: told, asked for, found
        dues.py                the messages that a link owes: acks, pings, pongs
        early.py               rows that come before their session is open here
        exchange.py            calls and sessions over links: who gets which message
        expectation.py         how long somebody who answers may take for the next step
        first_peers.py         first peers where none was named, or all of them are away
        gathering.py           several peers are met and asked at once
        greeting.py            the first messages on a pipe, before it is a link
        ground_network.py      the network over any ground of pipes
        hearing.py             offers that peers tell: checked, kept, passed on
        leads.py               peers that may be there, dialled and asked
        limits.py              limits of what strangers may take
        link.py                a link: the one framed connection to a peer
        links.py               the links there are, one to each peer
        losses.py              peers that were lost: dialled, found dead, met again
        lots.py                draws by lot among peers that others told of
        machine.py             the machine of a peer, as far as no program can compute it
        meeting.py             the peers a node meets and stays linked to
        memory.py              a network inside one process: for tests and examples
        neighbours.py          peers on the local network
        network.py             the network as everything above sees it
        news.py                news of the swarm, for whoever waits for some
        openings.py            sessions whose Open came and that are not open yet
        outbox.py              the frames that wait to be written on a link, and which goes first
        pipe.py                the ground below the links: raw byte streams
        pulse.py               when to ping, and when to take a peer for gone
        reach.py               a link to a peer of which we know the key and some addresses
        reader.py              the reader of a link: messages, paid for before more is read
        recall.py              acquaintances that are dialled again, seldom
        room.py                room for a new link, and the other one that ends for it
        search.py              the DHT asked for nodes of a model
        seats.py               how many answers to strangers are under way
        sleep.py               sleep of this machine, in which trio's clock stands still
        tidings.py             offers told, asked for and answered
        toll.py                processor time that reading for a peer may cost
        turn.py                a stretch of work without a checkpoint
        unasked.py             bounds on offers that nobody asked for
        uplink.py              the line that all links of this machine share
        word.py                on whose word a peer is dialled
        writer.py              the writer of a link
    overlay/libp2p/            the network over libp2p's protocols
        connection.py          one connection: noise, yamux, and the one stream of a link
        dht.py                 the DHT: nodes of a model, found without knowing anybody who knows
        dht_bounds.py          bounds on strangers at a DHT host
        dht_door.py            our part of the DHT as the node sees it
        dht_frames.py          messages between a node and its DHT's process
        dht_life.py            one life of the DHT's process
        dht_lookup.py          a look-up in the DHT, by the word of several hosts
        dht_process.py         the DHT's process
        dht_rest.py            a DHT host's work while nobody asks it anything
        dht_transport.py       the TCP of a DHT host
        ground.py              peers over TCP and noise: dialling, accepting
        identity.py            the key in noise's handshake
        interfaces.py          the addresses of this machine's interfaces
        knocks.py              how many connections a second get a handshake
        mdns.py                mDNS: peers on the local network
        mdns_records.py        records of mDNS that are kept
        multistream.py         multistream-select: what is spoken on a stream
        noise.py               noise's handshake XX
        parsers.py             fewer parsers for strangers' bytes
        records.py             noise's transport records on a socket
        tcp.py                 TCP below libp2p's protocols
        whereabouts.py         the addresses where we can be dialled now
        yamux.py               yamux as one connection of ours needs it
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from p2pinfer.client.aio import AsyncSwarm, AsyncTextStream, aconnect
    from p2pinfer.client.answer import Answer, AnswerStream
    from p2pinfer.client.api import Client, open_client
    from p2pinfer.client.blocking import Swarm, TextStream, connect
    from p2pinfer.client.request import Options
    from p2pinfer.client.setup import Setup
    from p2pinfer.core.values.errors import GenerationFailed, ModelError, NoRoute, P2pinferError, UsageError

__all__ = [
    "Answer",
    "AnswerStream",
    "AsyncSwarm",
    "AsyncTextStream",
    "Client",
    "GenerationFailed",
    "ModelError",
    "NoRoute",
    "Options",
    "P2pinferError",
    "Setup",
    "Swarm",
    "TextStream",
    "UsageError",
    "aconnect",
    "connect",
    "open_client",
]

_HOMES = {
    "Answer": "p2pinfer.client.answer",
    "AnswerStream": "p2pinfer.client.answer",
    "AsyncSwarm": "p2pinfer.client.aio",
    "AsyncTextStream": "p2pinfer.client.aio",
    "Client": "p2pinfer.client.api",
    "GenerationFailed": "p2pinfer.core.values.errors",
    "ModelError": "p2pinfer.core.values.errors",
    "NoRoute": "p2pinfer.core.values.errors",
    "Options": "p2pinfer.client.request",
    "P2pinferError": "p2pinfer.core.values.errors",
    "Setup": "p2pinfer.client.setup",
    "Swarm": "p2pinfer.client.blocking",
    "TextStream": "p2pinfer.client.blocking",
    "UsageError": "p2pinfer.core.values.errors",
    "aconnect": "p2pinfer.client.aio",
    "connect": "p2pinfer.client.blocking",
    "open_client": "p2pinfer.client.api",
}


def __getattr__(name: str) -> object:
    """Names of the library, imported when they are used: a verifier of statements needs no network."""
    if name not in _HOMES:
        raise AttributeError(f"module 'p2pinfer' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
