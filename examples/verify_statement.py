"""Verify a statement of earnings offline, with the core alone: no network, no model, no clock.

python examples/verify_statement.py november.statement

`p2pinfer earnings export FILE` writes one. Whoever writes a verifier in another language begins with
protocols/receipts.md; this one is the shortest.
"""

import sys
from pathlib import Path

from p2pinfer.core.records.statement_check import verify_statement
from p2pinfer.core.values.errors import RemoteProtocolError
from p2pinfer.core.values.keys import peer_name


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: python examples/verify_statement.py FILE")
    try:
        verdict = verify_statement(Path(sys.argv[1]).read_bytes())
    except OSError as error:
        sys.exit(f"cannot read the statement: {error}")
    except RemoteProtocolError as error:
        sys.exit(f"not a valid statement: {error}")

    header = verdict.header.record
    print(f"node {peer_name(header.node)}")
    print(f"{header.count} contracts, {header.amount:,} nano-credits, every signature and every sum holds")
    for share in verdict.by_payer:
        print(f"  {share.amount:>16,}  from {peer_name(share.payer)}")
    print("It does not prove:")
    for claim in verdict.not_proven:
        print(f"  - {claim}")


if __name__ == "__main__":
    main()
