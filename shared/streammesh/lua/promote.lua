#!lua flags=allow-oom
-- Moves one due member back to where it was going: a task or another queue entry onto its queue, an event
-- into its stream. ZREM is the gate: of several promoters one moves it.
-- KEYS[1] due (ZSET)  KEYS[2] due_entries (HASH)  KEYS[3] target (STREAM)  KEYS[4] task or event row (HASH)
-- KEYS[5] domains (SET)
-- ARGV[1] member  ARGV[2] kind ('task', 'entry' or 'event')  ARGV[3..4] h, b of a queue entry, '' where they lie
--   beside the member | domain, envelope of an event
-- ARGV[5] source of an event  ARGV[6] digest of an event  ARGV[7] channel for changes
-- Returns 1 if this call moved it, 0 if not.
--#include _write.lua
--#include _time.lua
local member = ARGV[1]
-- A script is not rolled back: what could fail fails here.
local is = redis.call('TYPE', KEYS[3]).ok
if is ~= 'none' and is ~= 'stream' then return redis.error_reply('WRONGTYPE ' .. KEYS[3] .. ' is a ' .. is) end
local known, state = redis.call('HLEN', KEYS[4]) > 0, ARGV[2] == 'task' and redis.call('HGET', KEYS[4], 'state')
if redis.call('ZREM', KEYS[1], member) == 0 then return 0 end
if ARGV[2] == 'event' then
  redis.call('HDEL', KEYS[2], member)
  local entry = redis.call('XADD', KEYS[3], '*', 'e', ARGV[4])
  if write('SADD', KEYS[5], ARGV[3]) == 1 then redis.call('PUBLISH', ARGV[7], 'domains') end
  if known then
    redis.call('HSET', KEYS[4], 'at:' .. ARGV[5], entry .. ' ' .. digits(now_ms()) .. ' ' .. ARGV[6] .. ' ' .. ARGV[3])
  end
  return 1
end
local fields = { 'h', ARGV[3], 'b', ARGV[4] }
if ARGV[3] == '' then
  local kept = redis.call('HMGET', KEYS[2], 'h ' .. member, 'b ' .. member, 'u ' .. member)
  fields = { 'h', kept[1] or '', 'b', kept[2] or '', 'u', kept[3] or '0' }
  redis.call('HDEL', KEYS[2], 'h ' .. member, 'b ' .. member, 'u ' .. member)
end
redis.call('HDEL', KEYS[2], member)
if state and state ~= 'retrying' then return 0 end
-- A task whose record was lost is queued all the same: whoever claims it parks it, with a reason.
local place = redis.call('XADD', KEYS[3], '*', unpack(fields))
if state then
  redis.call('HSET', KEYS[4], 'state', 'queued', 'entry', place)
  redis.call('HDEL', KEYS[4], 'due', 'lost')
end
return 1
