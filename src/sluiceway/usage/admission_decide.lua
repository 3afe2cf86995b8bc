-- Decide about a worker's attempts over all their limits at once, after taking in what its commits have changed.
--
-- KEYS: marker, windows, swept, reservations. ARGV: the question as JSON; in milliseconds, how long a reservation lasts,
-- how often one is looked for that lasts too long, and how long the keys live. A window is {opens, closes, used, pending}
-- under its limit's id; a reservation is {when, {{limit, opens, closes, amount}, ...}} under its attempt's id. Times are
-- milliseconds since 1970.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local ask = cjson.decode(ARGV[1])
local marker = tonumber(redis.call('GET', KEYS[1]) or -1)
if marker < ask.epoch then return cjson.encode({marker = marker, now = now}) end

local windows, changed = {}, {}

local function window(limit)
  if windows[limit] == nil then
    local held = redis.call('HGET', KEYS[2], limit)
    windows[limit] = held and cjson.decode(held) or false
  end
  return windows[limit]
end

local function open(limit, opens, closes)
  windows[limit] = {opens, closes, 0, 0}
  return windows[limit]
end

-- A limit has one window here, the present one. What belongs to one that has closed is of no interest any more.
local function add(limit, opens, closes, used, pending)
  if closes <= now then return end
  local present = window(limit)
  if not present or present[2] <= now then present = open(limit, opens, closes) end
  present[3], present[4] = present[3] + used, present[4] + pending
  changed[limit] = present
end

local function present_window(limit)
  local present = window(limit.id)
  if present and present[2] > now then return present end
  if limit.opens_first then return open(limit.id, now, now + limit.length) end
  if limit.length > 0 then
    local opens = now - now % limit.length
    return open(limit.id, opens, opens + limit.length)
  end
  for _, around in ipairs(limit.windows) do
    if around[1] <= now and now < around[2] then return open(limit.id, around[1], around[2]) end
  end
  return open(limit.id, now, now + 1000)
end

local function take(attempt)
  local held = redis.call('HGET', KEYS[4], attempt)
  if not held then return nil end
  redis.call('HDEL', KEYS[4], attempt)
  return cjson.decode(held)[2]
end

local function give_back(attempt)
  local held = take(attempt)
  for _, part in ipairs(held or {}) do add(part[1], part[2], part[3], -part[4], -part[4]) end
  return held ~= nil
end

local function reserve(attempt, wanted)
  local held = {}
  for place, part in ipairs(wanted) do
    local limit, present = ask.limits[part[1]], present_window(ask.limits[part[1]])
    present[3], present[4] = present[3] + part[2], present[4] + part[2]
    changed[limit.id] = present
    held[place] = {limit.id, present[1], present[2], part[2]}
  end
  redis.call('HSET', KEYS[4], attempt, cjson.encode({now, held}))
end

local function sweep()
  local held = redis.call('HGETALL', KEYS[4])
  for place = 1, #held, 2 do
    if cjson.decode(held[place + 1])[1] <= now - ARGV[2] then give_back(held[place]) end
  end
end

-- Of two refusals, whether one holds longer: what may be given back at any moment is no reason to wait for it.
local function holds_longer(one, other)
  if one.never ~= other.never then return one.never end
  if one.may_return ~= other.may_return then return other.may_return end
  return one.closes > other.closes
end

local function refusal(wanted)
  local worst = nil
  for _, part in ipairs(wanted) do
    local limit, present = ask.limits[part[1]], present_window(ask.limits[part[1]])
    local over = present[3] + part[2] - limit.amount
    if limit.hard and part[2] > 0 and over > 0 then
      local found = {
        limit = part[1], closes = present[2], may_return = over <= present[4], never = part[2] > limit.amount,
      }
      if not worst or holds_longer(found, worst) then worst = found end
    end
  end
  return worst
end

if redis.call('SET', KEYS[3], now, 'NX', 'PX', ARGV[3]) then sweep() end
for _, begun in ipairs(ask.begun) do
  local attempt, epoch, parts = begun[1], begun[2], begun[3]
  if epoch < marker then
    give_back(attempt)  -- it is in what was seeded
  elseif not take(attempt) then
    for _, part in ipairs(parts) do add(part[1], part[2], part[3], part[4], part[4]) end
  end
end
for _, part in ipairs(ask.settled) do
  if part[1] == marker then add(part[2], part[3], part[4], part[5], part[6]) end
end
for _, attempt in ipairs(ask.withdrawn) do give_back(attempt) end
local contradicted = 0
for _, attempt in ipairs(ask.refused) do
  if give_back(attempt) then contradicted = contradicted + 1 end
end

local refused = {}
for _, asked in ipairs(ask.attempts) do
  refused[asked[1]] = refusal(asked[2])
  if not refused[asked[1]] then reserve(asked[1], asked[2]) end
end

for limit, present in pairs(changed) do redis.call('HSET', KEYS[2], limit, cjson.encode(present)) end
redis.call('PEXPIRE', KEYS[2], ARGV[4])
redis.call('PEXPIRE', KEYS[4], ARGV[4])
return cjson.encode({marker = marker, now = now, contradicted = contradicted, refused = refused})
