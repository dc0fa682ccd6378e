"""Spatial-temporal attention on spikes: Q (K^T V) inside chunks of timesteps, with counters that saturate."""

from array_api_compat import array_namespace

from golden.network import Array, Attention


def attention(query: Array, key: Array, value: Array, p: Attention) -> tuple[Array, int]:
    """Return the sums int64 [T, C, H, W], 0..S, and the additions that make them.

    query, key, value : spikes int64 [T, C, H, W]
    With d, e channels of head h and g the chunk of step t: ``KV[g,h,d,e] = min(S, sum over the steps of g and all tokens
    of k[d] v[e])`` and ``sum[t,h,e] = min(S, sum over d of q[t,d] KV[g,h,d,e])``. All terms are at least 0, so a counter
    that stops at S gives the same in any order, and wherever it stops.
    Every spike of a key and of a query is added to all columns of its head.

    Source: STAtten (arXiv 2409.19764), block-wise attention; networks 1.2 and F3.
    """
    xp = array_namespace(query)
    steps, channels, height, width = query.shape
    chunks, tokens = steps // p.chunk_steps, height * width

    def heads(spikes: Array) -> Array:
        """Return [chunk, head, channel, step of the chunk and token]."""
        split = xp.reshape(spikes, (chunks, p.chunk_steps, p.heads, channels // p.heads, tokens))
        return xp.reshape(xp.permute_dims(split, (0, 2, 3, 1, 4)), (chunks, p.heads, channels // p.heads, -1))

    queries, keys, values = heads(query), heads(key), heads(value)
    products = xp.clip(keys @ xp.matrix_transpose(values), 0, p.saturation)
    sums = xp.clip(xp.matrix_transpose(products) @ queries, 0, p.saturation)
    split = xp.reshape(sums, (chunks, p.heads, channels // p.heads, p.chunk_steps, tokens))
    spikes = int(xp.sum(key)) + int(xp.sum(query))
    return (xp.reshape(xp.permute_dims(split, (0, 3, 1, 2, 4)), (steps, channels, height, width)),
            spikes * (channels // p.heads))


def attention_cycles(query: Array, key: Array, value: Array, *, steps: int, chunk_steps: int, columns: int, lanes: int) -> int:
    """Return the cycles from the start of a layer to its last addition, where memory and tail keep up and the words of every
    token begin a beat of memory.

    query, key, value : words of one head int64 [C / heads, N]
    columns : that are worked on at once, `attention_columns`

    One a step, one a row of products; one a word of a value, one a spike of a key and block of columns, one a spike of a
    query and block, one where a token has none; one before each token of values, keys and, for every block, queries; one
    more for every tile and block.
    """
    xp = array_namespace(query)
    head, tokens = map(int, query.shape)
    blocks = -(-head // columns)
    rows = -(-steps // chunk_steps) * head * blocks

    def spikes(words: Array) -> Array:
        return sum(xp.sum(words >> t & 1, axis=0) for t in range(steps))

    def entries(counts: Array) -> int:
        return sum(max(1, count) for count in counts.tolist())

    of_keys = spikes(key)
    building = entries(xp.count_nonzero(value, axis=0)) + entries(of_keys * blocks)
    turns = -(-tokens // lanes) * blocks
    return steps + rows + building + blocks * entries(spikes(query)) + (2 + blocks) * tokens + turns - 1
