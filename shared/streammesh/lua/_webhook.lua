-- Parts of the scripts that queue deliveries of webhooks. Positions compare as pairs of numbers.
--#include _write.lua
--#include _time.lua
--#include _version.lua
local function is_after(position, other)
  local ms, n = string.match(position, '^(%d+)-(%d+)$')
  local other_ms, other_n = string.match(other, '^(%d+)-(%d+)$')
  if not ms or not other_ms then return ms ~= nil end
  ms, other_ms = tonumber(ms), tonumber(other_ms)
  return ms > other_ms or (ms == other_ms and tonumber(n) > tonumber(other_n))
end

-- Has a webhook looked at now, or when its pause is over; who holds its lease sees by himself what is due next. A lease
-- that is looked at by nobody when it is over is none.
local function wake(due, failing, webhook, state, now)
  local stands = redis.call('HMGET', state, 'delivered', 'failures', 'off', 'token', 'hold')
  if stands[3] then return false end
  if stands[4] and (redis.call('ZSCORE', due, webhook) or redis.call('ZSCORE', failing, webhook)) then return false end
  local mine, other = failing, due
  if stands[1] and not stands[2] then mine, other = due, failing end
  local at, known = math.max(now, tonumber(stands[5] or '0') or 0), redis.call('ZSCORE', mine, webhook)
  if known and tonumber(known) <= at then return false end
  redis.call('ZREM', other, webhook)
  write('ZADD', mine, digits(at), webhook)
  return at <= now
end

-- Queues deliveries in their order, and returns the position after which there was no room, or nil.
-- w = {state, queue, entries, after, most, most_bytes, now, again (whatever is queued already is due now)}
local function queue_deliveries(w, deliveries)
  local counted = redis.call('HMGET', w.state, 'bytes', 'last')
  local bytes, last, length = tonumber(counted[1] or '0') or 0, tonumber(counted[2] or '0') or 0, redis.call('ZCARD', w.queue)
  local reached, full = w.after, nil
  for _, one in ipairs(deliveries) do
    if redis.call('HEXISTS', w.entries, one.delivery) == 1 then
      if w.again then redis.call('ZADD', w.queue, 'XX', digits(w.now), one.delivery) end
    elseif length >= w.most or (length > 0 and bytes + #one.body > w.most_bytes) then
      full = reached
      break
    else
      -- In the order of their arrival, however many come in one millisecond.
      last = math.max(w.now, last + 0.001)
      write('HSET', w.entries, one.delivery, digits(w.now) .. ' ' .. one.body)
      write('ZADD', w.queue, string.format('%.3f', last), one.delivery)
      bytes, length = bytes + #one.body, length + 1
    end
    reached = one.position
  end
  if #deliveries > 0 then
    write('HSET', w.state, 'bytes', digits(bytes), 'last', string.format('%.3f', last))
  end
  return full
end
