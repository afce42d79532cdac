#!lua flags=allow-oom
-- Renews the leases of what one consumer holds: idle times of its own pending entries go back to zero.
-- An entry that somebody else took over is left with him.
-- KEYS[1] and on: streams (STREAM)
-- ARGV[1] group  ARGV[2] consumer, then per stream: number of entries, their ids
-- Returns, per stream, the ids that are no longer this consumer's.
local group, me, a, lost = ARGV[1], ARGV[2], 3, {}
local PAGE = 1000  -- entries in one command; also keeps unpack within Lua's stack
for number, stream in ipairs(KEYS) do
  local mine, from = {}, '-'
  while true do
    local rows = redis.pcall('XPENDING', stream, group, from, '+', PAGE, me)
    if rows.err then break end
    for _, row in ipairs(rows) do mine[row[1]] = true end
    if #rows < PAGE then break end
    from = '(' .. rows[#rows][1]
  end
  local held, gone, last = {}, {}, a + tonumber(ARGV[a])
  for i = a + 1, last do
    if mine[ARGV[i]] then held[#held + 1] = ARGV[i] else gone[#gone + 1] = ARGV[i] end
  end
  for first = 1, #held, PAGE do
    local ids = { unpack(held, first, math.min(first + PAGE - 1, #held)) }
    ids[#ids + 1] = 'JUSTID'
    redis.call('XCLAIM', stream, group, me, 0, unpack(ids))
  end
  lost[number], a = gone, last + 1
end
return lost
