#!lua flags=allow-oom
-- Moves one due member back to where it was going: a task or another queue entry onto its queue, an event
-- into its stream. ZREM is the gate: of several promoters one moves it.
-- KEYS due (ZSET), due_entries (HASH), target (STREAM), row (HASH, of the task or the event), domains (SET)
-- ARGS member, kind ('task', 'entry' or 'event'), h, b (these two of a queue entry, '' where they lie beside the member; h alone
--   '' where b is both of them, packed),
--   domain, json (the envelope), source, digest (these four of an event), changed (channel)
-- Returns 1 if this call moved it, 0 if not.
--#include _write.lua
--#include _time.lua
--#include _flow.lua
-- A script is not rolled back: what could fail fails here.
local is = redis.call('TYPE', target).ok
if is ~= 'none' and is ~= 'stream' then return redis.error_reply('WRONGTYPE ' .. target .. ' is a ' .. is) end
if kind == 'task' and h == '' and b ~= '' then
  local queue, head, body = unpacked(string.sub(member, 6), b)
  if not queue then return redis.error_reply('NOENTRY what waits cannot be unpacked') end
  h, b = head, body
end
local known, state = redis.call('HLEN', row) > 0, kind == 'task' and redis.call('HGET', row, 'state')
if redis.call('ZREM', due, member) == 0 then return 0 end
if kind == 'event' then
  redis.call('HDEL', due_entries, member)
  local entry = redis.call('XADD', target, '*', 'e', json)
  if write('SADD', domains, domain) == 1 then redis.call('PUBLISH', changed, 'domains') end
  if known then
    redis.call('HSET', row, 'at:' .. source, entry .. ' ' .. digits(now_ms()) .. ' ' .. digest .. ' ' .. domain)
  end
  return 1
end
local fields = { 'h', h, 'b', b }
if h == '' then
  local kept = redis.call('HMGET', due_entries, 'h ' .. member, 'b ' .. member, 'u ' .. member)
  fields = { 'h', kept[1] or '', 'b', kept[2] or '', 'u', kept[3] or '0' }
  redis.call('HDEL', due_entries, 'h ' .. member, 'b ' .. member, 'u ' .. member)
end
redis.call('HDEL', due_entries, member)
if state and state ~= 'retrying' and state ~= 'waiting' then return 0 end
if state then
  flow_again(row, redis.call('HGET', row, 'flow'), string.sub(member, 6), target, fields)
  redis.call('HDEL', row, 'due', 'lost', 'waiting')
else  -- its record was lost: whoever claims it parks it, with a reason
  redis.call('XADD', target, '*', unpack(fields))
end
return 1
