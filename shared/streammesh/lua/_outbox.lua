-- The outbox of another shard: what a dispatcher brings there.
--#include _write.lua

-- Lays an entry with these fields into an outbox; its relay is told where it may sleep.
local function lay_out(outbox, changed, ...)
  write('XADD', outbox, '*', ...)
  if redis.call('XLEN', outbox) == 1 then redis.call('PUBLISH', changed, 'outbox') end
end

-- When something was published that another shard's clock says came `age` ms ago, as a moment of this shard's: never before
-- something that was published here before it, whatever is rounded.
local function moment_ago(age, now)
  return string.format('%016.0f', (now - tonumber(age) + 1) * 1000 + 999)
end
