#!lua flags=allow-oom
-- Ends what remove_manifest.lua began: removes the groups that kept events from being trimmed, the queue, and every
-- record of the service but its dead letters. Not while something of it is left, nor when it has come back.
-- KEYS manifests (HASH), retiring (HASH), alive (ZSET), open_tasks (ZSET), last_seen (HASH), joined (HASH),
--   holding (SET), paused (HASH), failures (HASH), editions (ZSET),
--   sealed (STRING, its own manifest), queues (STREAM, each)
-- ARGS service
-- subscriptions: KEYS held (STREAM, what it holds while it is paused), flow (HASH, of its limits) ARGS task
-- domains: KEYS stream (STREAM) ARGS domain
-- Returns 'done' | 'back' (it has registered again) | 'busy' (it has open tasks).
if redis.call('HEXISTS', manifests, service) == 1 then return 'back' end
if redis.call('ZCARD', open_tasks) > 0 then return 'busy' end
for _, queue in ipairs(queues) do redis.call('DEL', queue) end
for _, subscription in ipairs(subscriptions) do
  redis.call('DEL', subscription.held)
  local before, task = string.match(subscription.flow, '^(.-}:)flow:(.*)$')
  redis.call('SREM', before .. 'flows', task)
  redis.call('SREM', before .. 'folding', task)
  redis.call('ZREM', before .. 'due', 'flow:' .. task)
  redis.call('HDEL', before .. 'due-entries', 'flow:' .. task)
  for _, part in ipairs({ '', '-line', '-places', '-ready', '-slow', '-rate', '-until', '-runs' }) do
    redis.call('DEL', before .. 'flow' .. part .. ':' .. task)
  end
  redis.call('SREM', holding, subscription.task)
  redis.call('HDEL', paused, subscription.task)
  redis.call('HDEL', failures, subscription.task)
end
for _, one in ipairs(domains) do
  redis.pcall('XGROUP', 'DESTROY', one.stream, service)
  redis.call('HDEL', joined, one.domain .. ' ' .. service)
end
redis.call('DEL', alive, open_tasks, editions, sealed, (string.gsub(open_tasks, '}:open:', '}:waking:', 1)))
redis.call('HDEL', last_seen, service)
redis.call('HDEL', retiring, service)
return 'done'
