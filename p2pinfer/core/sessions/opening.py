"""An Open beside its contract, as a stage holds it: neighbours and sampling record (protocols/inference.md, 3.1)."""

from p2pinfer.core.records.contract import Contract
from p2pinfer.core.records.sampling import SamplingRecord, decode_sampling, params_hash
from p2pinfer.core.values.codes import Code
from p2pinfer.core.values.errors import Refused
from p2pinfer.core.values.units import Roles
from p2pinfer.core.wire.session_messages import Open


def check_neighbours(contract: Contract, message: Open, layers: int) -> None:
    """Neighbours must be those that the roles call for, and the roles those of the span's ends in so many layers.

    Raises Refused (BAD_TERMS).
    """
    head, tail = contract.span.first == 0, contract.span.last == layers
    if (Roles.HEAD in contract.roles, Roles.TAIL in contract.roles) != (head, tail):
        raise Refused(f"roles {contract.roles!r} do not fit layers {contract.span} of {layers}", Code.BAD_TERMS)
    wanted = (not head, not tail, head != tail)
    if tuple(map(bool, (message.predecessor, message.successor, message.far_end))) != wanted:
        raise Refused("the neighbours named do not fit the roles", Code.BAD_TERMS)
    if contract.node in {one.key for one in (*message.predecessor, *message.successor, *message.far_end)}:
        raise Refused("a stage is no neighbour of itself", Code.BAD_TERMS)


def read_sampling(contract: Contract, message: Open) -> SamplingRecord | None:
    """The sampling record of a tail; None for other stages.

    Raises Refused (BAD_TERMS, TOO_LONG), or RemoteProtocolError (BAD_RECORD).
    """
    if Roles.TAIL not in contract.roles:
        return None
    if contract.params != params_hash(message.secret, message.sampling):
        raise Refused("the contract does not bind the sampling record", Code.BAD_TERMS)
    sampling = decode_sampling(message.sampling)
    if contract.prompt + sampling.max_tokens > contract.limits.max_positions:
        raise Refused(
            f"a prompt of {contract.prompt} and {sampling.max_tokens} tokens do not fit "
            f"{contract.limits.max_positions} positions",
            Code.TOO_LONG,
        )
    return sampling
