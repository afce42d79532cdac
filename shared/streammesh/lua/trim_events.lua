#!lua flags=allow-oom
-- Removes the oldest events of a stream: those that are older than the retention and that every group has
-- been given and has acknowledged. At most about `limit` of them, so that nobody waits long for the server.
-- KEYS[1] events (STREAM)
-- ARGV[1] retention, ms  ARGV[2] limit
-- Returns {removed, whether there may be more (1 or 0), length left, the group that keeps older ones ('' for none)}.
--#include _time.lua
if redis.call('EXISTS', KEYS[1]) == 0 then return { 0, 0, 0, '' } end
local function parts(id)
  local a, b = string.match(id, '^(%d+)%-(%d+)$')
  return tonumber(a), tonumber(b)
end
local ms, seq, keeper = now_ms() - tonumber(ARGV[1]), 0, ''
for _, group in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local info = {}
  for i = 1, #group, 2 do info[group[i]] = group[i + 1] end
  local a, b
  if info.pending > 0 then
    a, b = parts(redis.call('XPENDING', KEYS[1], info.name)[2])
  else
    a, b = parts(info['last-delivered-id'])
    b = b + 1
  end
  if a < ms or (a == ms and b < seq) then ms, seq, keeper = a, b, info.name end
end
local first = digits(ms) .. '-' .. digits(seq)
local removed = redis.call('XTRIM', KEYS[1], 'MINID', '~', first, 'LIMIT', ARGV[2])
local more = removed > 0 and 1 or 0
if more == 0 then removed = redis.call('XTRIM', KEYS[1], 'MINID', '=', first) end -- what is left of one node
if keeper ~= '' then
  local oldest = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
  if not oldest or parts(oldest[1]) >= now_ms() - tonumber(ARGV[1]) then keeper = '' end
end
return { removed, more, redis.call('XLEN', KEYS[1]), keeper }
