-- A handler answered with a workflow: queues its first tasks and ends the handler's own queue entry in
-- one step. The delivery stays `started` until the workflow ends it. Refused when the token is not
-- the current one.
-- KEYS[1] task (HASH)  KEYS[2] queue of the delivery (STREAM)  then per message: its queue (STREAM)
-- ARGV[1] token  ARGV[2] queue entry  ARGV[3] group of the queue  then per message: h, b
-- Returns {'done'} | {'lost'}.
local row = redis.call('HMGET', KEYS[1], 'state', 'attempt', 'workflow')
if row[2] ~= ARGV[1] or row[1] ~= 'started' then return { 'lost' } end
if row[3] then return { 'done' } end
for i = 3, #KEYS do
  redis.call('XADD', KEYS[i], '*', 'h', ARGV[2 * i - 2], 'b', ARGV[2 * i - 1])
end
redis.call('HSET', KEYS[1], 'workflow', 1)
redis.call('HDEL', KEYS[1], 'lease')
if ARGV[2] ~= '' then
  redis.call('XACK', KEYS[2], ARGV[3], ARGV[2])
  redis.call('XDEL', KEYS[2], ARGV[2])
end
return { 'done' }
