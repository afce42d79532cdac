#!lua flags=allow-oom
-- Settles attempts of one webhook and takes what is due next, under its lease. What was delivered is removed whoever says
-- so; all else counts only from who holds the lease. With nothing taken and nothing under way the lease ends, and the
-- webhook waits for its next time.
-- KEYS webhooks (HASH), due (ZSET), failing (ZSET), state (HASH), queue (ZSET), entries (HASH), attempts (STREAM)
-- ARGS webhook, token (of the lease), claims (it begins now: refused while another holds it), lease (ms),
--   room (most that are taken), under_way (taken before and not settled yet), ordered, hold (ms in which nothing is tried,
--   0 for none), kept (attempts that are remembered, about)
-- results: ARGS delivery, outcome ('delivered', 'again', 'gone' (given up, it was tried), 'expired' (given up untried)),
--   wait (ms), attempt (JSON, '' for none)
-- Returns {'held', failures, since (ms), next (ms, '' for never), then delivery, entry, attempts of each that is taken}
--   or {'lost'}.
--#include _webhook.lua
if redis.call('HEXISTS', webhooks, webhook) == 0 then return { 'lost' } end
local now = now_ms()
if claims then
  local at = redis.call('ZSCORE', due, webhook) or redis.call('ZSCORE', failing, webhook)
  if not at or tonumber(at) > now then return { 'lost' } end
  redis.call('HSET', state, 'token', token)
end
local holds = redis.call('HGET', state, 'token') == token
local bytes, delivered, failed, given_up = 0, 0, 0, 0
for _, one in ipairs(results) do
  if one.outcome == 'delivered' or (holds and one.outcome ~= 'again') then
    local size = redis.call('HSTRLEN', entries, one.delivery)
    if redis.call('HDEL', entries, one.delivery) == 1 then bytes = bytes + math.max(0, size - 14) end
    redis.call('HDEL', entries, 'n ' .. one.delivery)
    redis.call('ZREM', queue, one.delivery)
    if one.outcome == 'delivered' then delivered = delivered + 1 else given_up = given_up + 1 end
    if one.outcome == 'gone' then failed = failed + 1 end
  elseif holds then
    if redis.call('HEXISTS', entries, one.delivery) == 1 then
      write('HINCRBY', entries, 'n ' .. one.delivery, 1)
      if not ordered then redis.call('ZADD', queue, 'XX', digits(now + one.wait), one.delivery) end
    end
    failed = failed + 1
  end
  if one.attempt ~= '' then write('XADD', attempts, 'MAXLEN', '~', kept, '*', 'a', one.attempt) end
end
if bytes > 0 then
  local left = (tonumber(redis.call('HGET', state, 'bytes') or '0') or 0) - bytes
  redis.call('HSET', state, 'bytes', digits(math.max(0, left)))
end
if delivered > 0 then
  write('HINCRBY', state, 'delivered', delivered)
  redis.call('HDEL', state, 'failures', 'since', 'hold')
end
if given_up > 0 then write('HINCRBY', state, 'given_up', given_up) end
if failed > 0 and delivered == 0 then
  write('HINCRBY', state, 'failures', failed)
  redis.call('HSETNX', state, 'since', digits(now))
end
if not holds then return { 'lost' } end
if hold > 0 then redis.call('HSET', state, 'hold', digits(now + hold)) end
local stands = redis.call('HMGET', state, 'failures', 'since', 'hold', 'off', 'delivered')
local held = tonumber(stands[3] or '0') or 0
local answer = { 'held', stands[1] or '0', stands[2] or '', '' }
local taken = {}
if room > 0 and not stands[4] and held <= now then
  if ordered then
    if under_way == 0 then taken = redis.call('ZRANGE', queue, 0, room - 1) end
  else
    taken = redis.call('ZRANGEBYSCORE', queue, '-inf', digits(now + 1), 'LIMIT', 0, room)
  end
end
local found = 0
for _, delivery in ipairs(taken) do
  local entry = redis.call('HMGET', entries, delivery, 'n ' .. delivery)
  if entry[1] then
    found = found + 1
    if not ordered then redis.call('ZADD', queue, 'XX', digits(now + lease), delivery) end
    answer[#answer + 1] = delivery
    answer[#answer + 1] = entry[1]
    answer[#answer + 1] = entry[2] or '0'
  else
    redis.call('ZREM', queue, delivery)
  end
end
local mine, other = failing, due
if stands[5] and not stands[1] then mine, other = due, failing end
redis.call('ZREM', other, webhook)
if found > 0 or under_way > 0 then
  redis.call('ZADD', mine, digits(now + lease), webhook)
  return answer
end
redis.call('HDEL', state, 'token')
local head = redis.call('ZRANGE', queue, 0, 0, 'WITHSCORES')
if stands[4] or not head[1] then
  redis.call('ZREM', mine, webhook)
  return answer
end
local at = math.max(held, ordered and now or tonumber(head[2]))
if at < now then at = now end
answer[4] = digits(at)
redis.call('ZADD', mine, digits(at), webhook)
return answer
