#!lua flags=allow-oom
-- Removes the oldest events of a stream: those that are older than the retention and that every group has
-- been given and has acknowledged. At most about `limit` of them, so that nobody waits long for the server.
-- KEYS events (STREAM)
-- ARGS retention (ms), limit (entries in one call), holder (a group that has to be there and had them, '' for none)
-- Returns {removed, whether there may be more (1 or 0), length left, the group that keeps older ones ('' for none)}.
--#include _time.lua
--#include _groups.lua
if redis.call('EXISTS', events) == 0 then return { 0, 0, 0, '' } end
if holder ~= '' then redis.pcall('XGROUP', 'CREATE', events, holder, '0') end  -- it is there already: an error
local function parts(id)
  local a, b = string.match(id, '^(%d+)%-(%d+)$')
  return tonumber(a), tonumber(b)
end
local ms, seq, keeper = now_ms() - retention, 0, ''
for _, row in ipairs(redis.call('XINFO', 'GROUPS', events)) do
  local info = named(row)
  local a, b
  if info.pending > 0 then
    a, b = parts(redis.call('XPENDING', events, info.name)[2])
  else
    a, b = parts(info['last-delivered-id'])
    b = b + 1
  end
  if a < ms or (a == ms and b < seq) then ms, seq, keeper = a, b, info.name end
end
local first = digits(ms) .. '-' .. digits(seq)
local removed = redis.call('XTRIM', events, 'MINID', '~', first, 'LIMIT', limit)
local more = removed > 0 and 1 or 0
if more == 0 then removed = redis.call('XTRIM', events, 'MINID', '=', first) end -- what is left of one node
if keeper ~= '' then
  local oldest = redis.call('XRANGE', events, '-', '+', 'COUNT', 1)[1]
  if not oldest or parts(oldest[1]) >= now_ms() - retention then keeper = '' end
end
return { removed, more, redis.call('XLEN', events), keeper }
