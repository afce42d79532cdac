#!lua flags=allow-oom
-- Renews the leases of what one consumer holds: idle times of its own pending entries go back to zero.
-- An entry that somebody else took over is left with him.
-- ARGS group, me (the consumer)
-- streams: KEYS key (STREAM) ARGS ids
-- Returns, per stream, the ids that are no longer this consumer's.
local lost = {}
local PAGE = 1000  -- entries in one command; also keeps unpack within Lua's stack
for number, stream in ipairs(streams) do
  local mine, from = {}, '-'
  while true do
    local rows = redis.pcall('XPENDING', stream.key, group, from, '+', PAGE, me)
    if rows.err then break end
    for _, row in ipairs(rows) do mine[row[1]] = true end
    if #rows < PAGE then break end
    from = '(' .. rows[#rows][1]
  end
  local held, gone = {}, {}
  for _, id in ipairs(stream.ids) do
    if mine[id] then held[#held + 1] = id else gone[#gone + 1] = id end
  end
  for first = 1, #held, PAGE do
    local ids = { unpack(held, first, math.min(first + PAGE - 1, #held)) }
    ids[#ids + 1] = 'JUSTID'
    redis.call('XCLAIM', stream.key, group, me, 0, unpack(ids))
  end
  lost[number] = gone
end
return lost
