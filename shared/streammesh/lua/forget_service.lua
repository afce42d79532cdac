#!lua flags=allow-oom
-- Ends what remove_manifest.lua began: removes the groups that kept events from being trimmed, the queue, and every
-- record of the service but its dead letters. Not while something of it is left, nor when it has come back.
-- KEYS[1] manifests (HASH)  KEYS[2] retiring (HASH)  KEYS[3] alive (ZSET)  KEYS[4] open tasks (ZSET)
-- KEYS[5] last seen (HASH)  KEYS[6] joined (HASH)  KEYS[7] holding (SET)  KEYS[8] paused (HASH)
-- KEYS[9] failures (HASH), then its queues (STREAM), what its paused subscriptions hold (STREAM), streams of domains
--   (STREAM)
-- ARGV[1] service  ARGV[2] number of queues  ARGV[3] number of its subscriptions, then their tasks, then the domains
-- Returns 'done' | 'back' (it has registered again) | 'busy' (it has open tasks).
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 1 then return 'back' end
if redis.call('ZCARD', KEYS[4]) > 0 then return 'busy' end
local queues, tasks = tonumber(ARGV[2]), tonumber(ARGV[3])
for i = 1, queues do redis.call('DEL', KEYS[9 + i]) end
for i = 1, tasks do
  local task = ARGV[3 + i]
  redis.call('DEL', KEYS[9 + queues + i])
  redis.call('SREM', KEYS[7], task)
  redis.call('HDEL', KEYS[8], task)
  redis.call('HDEL', KEYS[9], task)
end
for i = 1, #KEYS - 9 - queues - tasks do
  redis.pcall('XGROUP', 'DESTROY', KEYS[9 + queues + tasks + i], ARGV[1])
  redis.call('HDEL', KEYS[6], ARGV[3 + tasks + i] .. ' ' .. ARGV[1])
end
redis.call('DEL', KEYS[3], KEYS[4])
redis.call('HDEL', KEYS[5], ARGV[1])
redis.call('HDEL', KEYS[2], ARGV[1])
return 'done'
