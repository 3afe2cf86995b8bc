-- Write what the store says is used, and only then the marker that makes it believed.
--
-- KEYS: as in admission_decide.lua. ARGV: the epoch, the windows as JSON {{limit, opens, closes, used, pending}, ...}, how
-- many milliseconds the marker lives, how many milliseconds the keys do. Reservations stay, on top of what is seeded:
-- their attempts may yet begin. Whoever reports that one had begun before the store was read, gives it back.

local marker = tonumber(redis.call('GET', KEYS[1]) or -1)
if marker >= tonumber(ARGV[1]) then return marker end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local windows = {}

for _, seed in ipairs(cjson.decode(ARGV[2])) do
  local limit, closes = seed[1], seed[3]
  if closes > now and not (windows[limit] and windows[limit][2] <= closes) then
    windows[limit] = {seed[2], closes, seed[4], seed[5]}
  end
end
for _, held in ipairs(redis.call('HVALS', KEYS[4])) do
  for _, part in ipairs(cjson.decode(held)[2]) do
    local limit, amount = part[1], part[4]
    if part[3] > now then
      local present = windows[limit] or {part[2], part[3], 0, 0}
      windows[limit] = {present[1], present[2], present[3] + amount, present[4] + amount}
    end
  end
end

redis.call('DEL', KEYS[2])
for limit, present in pairs(windows) do redis.call('HSET', KEYS[2], limit, cjson.encode(present)) end
redis.call('PEXPIRE', KEYS[2], ARGV[4])
redis.call('PEXPIRE', KEYS[4], ARGV[4])
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[3])
return tonumber(ARGV[1])
